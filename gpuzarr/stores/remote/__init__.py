"""Storage whose answers come late: object stores, HTTP, other packages' stores."""

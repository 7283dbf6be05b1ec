"""JSON documents of Zarr v2 and v3 in, one frozen model out; nothing here touches a store."""

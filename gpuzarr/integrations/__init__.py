"""Doors to other libraries, one module each; a module needs the library that it is named after."""

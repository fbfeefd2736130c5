//! A client of any registry.

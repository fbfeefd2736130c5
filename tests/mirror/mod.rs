//! Tests `imgsync mirror` and `imgsync pull`.

mod offline;
mod pull;
mod referrers;
mod registries;
mod selection;

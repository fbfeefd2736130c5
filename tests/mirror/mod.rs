//! Tests `imgsync mirror` and `imgsync pull`.

mod carried;
mod choice;
mod company;
mod pull;
mod registries;

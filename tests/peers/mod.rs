//! Docker, podman, skopeo and the stock registry beside ours.

mod clients;
mod container;
mod docker;
mod stock;
mod stock_and_back;

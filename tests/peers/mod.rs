//! Tests the tool and the server together with Docker, podman, skopeo and the stock registry.

mod backup;
mod check;
mod clients;
mod collectors;
mod container;
mod docker;
mod full_disk;
mod notifications;
mod panel;
mod replacement;
mod stock;
mod stock_and_back;

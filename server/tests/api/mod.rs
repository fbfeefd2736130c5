//! The distribution API: every request of the specification and of our extension.

mod blobs;
mod conformance;
mod deletes;
mod faults;
mod foreign;
mod lists;
mod manifests;
mod options;
mod referrers;
mod resolve;
mod uploads;

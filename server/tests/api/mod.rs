//! Tests of the distribution API and of the extension `_imgsync`.

mod assemble;
mod blobs;
mod conformance;
mod cors;
mod deletes;
mod interrupted_uploads;
mod lists;
mod manifests;
mod referrers;
mod resolve;
mod robustness;
mod third_party;
mod trash;
mod uploads;

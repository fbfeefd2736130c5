//! A client of the content service of one daemon.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use imgsync_oci::Digest;
use tokio::sync::Mutex;

use super::error::ContentError;
use super::messages::{
    ContentInfo, list_request, parse_list_response, parse_read_response, read_request,
};
use crate::transports::daemon::connect::Connector;
use crate::transports::daemon::grpc::{self, GrpcConnection, MessageStream};

/// The header with the namespace, which only containerd itself needs.
const NAMESPACE_HEADER: &str = "containerd-namespace";
/// containerd's namespace for the content of Docker. Docker itself ignores it.
const NAMESPACE: &str = "moby";
/// The most digests of one list request. The service compares each of its blobs with all of them.
const MAX_LIST_DIGESTS: usize = 200;

/// The content store of a daemon, over one connection that is opened when it is needed.
#[derive(Debug)]
pub(super) struct ContentStore {
    connector: Connector,
    connection: Mutex<Option<GrpcConnection>>,
}

/// The bytes of a blob, as they arrive.
#[derive(Debug)]
pub(super) struct BlobStream {
    messages: MessageStream,
    offset: u64,
}

impl ContentStore {
    /// Returns a client that has not connected yet.
    pub(super) fn new(connector: Connector) -> Arc<Self> {
        let connection = Mutex::new(None);
        Arc::new(Self {
            connector,
            connection,
        })
    }

    /// Returns those of the blobs that the store has.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub(super) async fn list(
        &self,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, ContentInfo>, ContentError> {
        let mut found = HashMap::new();
        for some in digests.chunks(MAX_LIST_DIGESTS) {
            let mut messages = self.call("List", &list_request(some)).await?;
            while let Some(message) = messages.next().await? {
                let infos = parse_list_response(message)?;
                // A service that ignores the filters must not fill the memory.
                let infos = infos.into_iter().filter(|info| some.contains(&info.digest));
                found.extend(infos.map(|info| (info.digest.clone(), info)));
            }
        }
        Ok(found)
    }

    /// Starts to read a blob at `offset`.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub(super) async fn read_from(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, ContentError> {
        let messages = self.call("Read", &read_request(digest, offset)).await?;
        Ok(BlobStream { messages, offset })
    }

    /// Reads a blob of `size` bytes into memory.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read, or if the blob has another size or digest.
    pub(super) async fn read_all(&self, digest: &Digest, size: u64) -> Result<Bytes, ContentError> {
        let mut bytes = BytesMut::new();
        let mut stream = self.read_from(digest, 0).await?;
        while let Some(data) = stream.next().await? {
            bytes.extend_from_slice(&data);
            if bytes.len() as u64 > size {
                break;
            }
        }
        let found = Digest::of_with(digest.algorithm(), &bytes);
        if found == *digest {
            return Ok(bytes.freeze());
        }
        let what = format!("the content of {digest} has the digest {found}");
        Err(ContentError::Malformed(what))
    }

    async fn call(&self, method: &str, message: &[u8]) -> Result<MessageStream, ContentError> {
        let mut connection = self.connect().await?;
        let path = format!("/containerd.services.content.v1.Content/{method}");
        let headers = [(NAMESPACE_HEADER, NAMESPACE)];
        Ok(grpc::call(&mut connection, &path, &headers, message).await?)
    }

    /// Returns the connection, opened again if it was closed.
    async fn connect(&self) -> Result<GrpcConnection, ContentError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let opened = grpc::open(&self.connector).await?;
        Ok(connection.insert(opened).clone())
    }
}

impl BlobStream {
    /// Returns the next bytes; `None` at the end of the blob.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ContentError> {
        while let Some(message) = self.messages.next().await? {
            let response = parse_read_response(message)?;
            if response.offset != self.offset {
                let (expected, found) = (self.offset, response.offset);
                let what = format!("the content service sent offset {found} after {expected}");
                return Err(ContentError::Malformed(what));
            }
            if !response.data.is_empty() {
                self.offset += response.data.len() as u64;
                return Ok(Some(response.data));
            }
        }
        Ok(None)
    }
}

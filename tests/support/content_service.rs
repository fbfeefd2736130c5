//! containerd's content service over HTTP/2, with faults that a test chooses.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of a blob in one message, as containerd sends them.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// The fault of the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentFault {
    #[default]
    None,
    /// The service does not exist: status 12, without a body.
    Unimplemented,
    /// A list has no entries.
    EmptyList,
    /// The first connections break after this many bytes.
    Breaks { connections: usize, bytes: usize },
    /// A response ends without a status.
    NoStatus,
    /// A message announces 4 GiB.
    GiantMessage,
    /// A message is no protobuf.
    Garbage,
    /// Every part of a blob has the offset 1.
    WrongOffset,
    /// The bytes of layers are not those of their digests.
    WrongBytes,
    /// Layers end early, with the status 0.
    Short,
    /// Layers are listed, and not found when they are read.
    Vanished,
}

/// The content of a store, with a log of what was read.
#[derive(Clone)]
pub struct ContentService {
    blobs: Arc<HashMap<String, Vec<u8>>>,
    labels: Arc<HashMap<String, String>>,
    fault: ContentFault,
    /// Blobs of at least this size are layers, and have the faults of layers.
    layer_bytes: usize,
    connections: Arc<Mutex<usize>>,
    reads: Arc<Mutex<Vec<(String, u64)>>>,
}

impl ContentService {
    /// Creates a service without faults. `labels` has the diffIDs of blobs that were unpacked.
    pub fn new(blobs: HashMap<String, Vec<u8>>, labels: HashMap<String, String>) -> Self {
        Self {
            blobs: Arc::new(blobs),
            labels: Arc::new(labels),
            fault: ContentFault::None,
            layer_bytes: 100_000,
            connections: Arc::default(),
            reads: Arc::default(),
        }
    }

    pub fn with_fault(mut self, fault: ContentFault) -> Self {
        self.fault = fault;
        self
    }

    /// Returns the reads of layers: the digest, and the offset of the start.
    pub fn layer_reads(&self) -> Vec<(String, u64)> {
        let reads = self.reads.lock().expect("the log");
        let is_layer = |digest: &String| self.blobs[digest].len() >= self.layer_bytes;
        let reads = reads.iter().filter(|(digest, _)| is_layer(digest));
        reads.cloned().collect()
    }

    fn list(&self, filters: &[String]) -> Vec<Bytes> {
        let is_listed = |digest: &&String| {
            let filter = format!("digest=={digest}");
            filters.is_empty() || filters.contains(&filter)
        };
        let digests = self.blobs.keys().filter(is_listed);
        let infos = digests.map(|digest| {
            let mut info = field(1, digest.as_bytes());
            info.extend(number(2, self.blobs[digest].len() as u64));
            if let Some(diff_id) = self.labels.get(digest) {
                let key = field(1, b"containerd.io/uncompressed");
                info.extend(field(5, &[key, field(2, diff_id.as_bytes())].concat()));
            }
            field(1, &info)
        });
        if self.fault == ContentFault::EmptyList {
            return vec![Bytes::new()];
        }
        vec![infos.collect::<Vec<_>>().concat().into()]
    }

    /// Returns the messages of a read, or the code of an error.
    fn read(&self, digest: &str, offset: u64) -> Result<Vec<Bytes>, u32> {
        let mut blob = self.blobs.get(digest).ok_or(5_u32)?.clone();
        self.reads
            .lock()
            .expect("the log")
            .push((digest.to_owned(), offset));
        let is_layer = blob.len() >= self.layer_bytes;
        match self.fault {
            ContentFault::Vanished if is_layer => return Err(5),
            ContentFault::WrongBytes if is_layer => blob[1000] ^= 1,
            ContentFault::Short if is_layer => blob.truncate(50_000),
            _ => {}
        }
        let mut offset = usize::try_from(offset).expect("a small blob");
        let mut messages = Vec::new();
        while offset < blob.len() {
            let data = &blob[offset..blob.len().min(offset + MESSAGE_BYTES)];
            let stated = match self.fault {
                ContentFault::WrongOffset => 1,
                _ => offset as u64,
            };
            messages.push([number(1, stated), field(2, data)].concat().into());
            offset += data.len();
        }
        Ok(messages)
    }

    /// Returns after how many bytes a new connection breaks.
    fn next_break(&self) -> Option<usize> {
        let mut number = self.connections.lock().expect("the count");
        *number += 1;
        match self.fault {
            ContentFault::Breaks { connections, bytes } if *number <= connections => Some(bytes),
            _ => None,
        }
    }
}

/// Serves one connection.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: ContentService,
) {
    let left = service.next_break();
    let stream = CutStream { stream, left };
    let respond = service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(respond(request, &service).await) }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), respond);
    // A client may close the connection at any time.
    let _ = connection.await;
}

/// A connection that can break after some bytes were written.
struct CutStream<T> {
    stream: T,
    left: Option<usize>,
}

impl<T: AsyncRead + Unpin> AsyncRead for CutStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CutStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let len = buffer.len().min(self.left.unwrap_or(usize::MAX));
        if len == 0 && !buffer.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, &buffer[..len]))?;
        self.left = self.left.map(|left| left - written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

type Body = BoxBody<Bytes, io::Error>;

async fn respond(request: Request<Incoming>, service: &ContentService) -> Response<Body> {
    let method = request
        .uri()
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(request.headers()["te"], "trailers");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    let body = request
        .into_body()
        .collect()
        .await
        .expect("a request")
        .to_bytes();
    let fields = fields(&body[5..]);
    let texts = fields.iter().filter(|(number, _)| *number == 1);
    let texts = texts.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    let texts: Vec<_> = texts.collect();
    if service.fault == ContentFault::Unimplemented {
        return trailers_only(12);
    }
    let messages = if method == "Read" {
        let offset = fields.iter().find(|(number, _)| *number == 2);
        let offset = offset.map_or(0, |(_, value)| u64_of(value));
        match service.read(&texts[0], offset) {
            Ok(messages) => messages,
            Err(code) => return trailers_only(code),
        }
    } else {
        service.list(&texts)
    };
    let mut frames: Vec<Frame<Bytes>> = messages.into_iter().map(framed).map(Frame::data).collect();
    match service.fault {
        ContentFault::NoStatus => {}
        ContentFault::GiantMessage => {
            frames.insert(0, Frame::data(Bytes::from_static(b"\0\xff\xff\xff\xff")));
        }
        ContentFault::Garbage => {
            frames = vec![Frame::data(framed(Bytes::from_static(b"\xff\xff")))]
        }
        _ => frames.push(Frame::trailers(status(0))),
    }
    let frames = stream::iter(frames).map(Ok);
    grpc_response(BodyExt::boxed(StreamBody::new(frames)), HeaderMap::new())
}

fn grpc_response(body: Body, more: HeaderMap) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().extend(more);
    let content_type = "application/grpc".parse().expect("a header");
    response.headers_mut().insert("content-type", content_type);
    response
}

fn trailers_only(code: u32) -> Response<Body> {
    let empty = http_body_util::Empty::new().map_err(|never| match never {});
    grpc_response(empty.boxed(), status(code))
}

fn status(code: u32) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    if code != 0 {
        let message = "a%20fault%20of%20the%20test".parse().expect("a header");
        trailers.insert("grpc-message", message);
    }
    trailers
}

fn framed(message: Bytes) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a short message"));
    frame.put(message);
    frame.freeze()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn field(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &varint(value.len() as u64), value].concat()
}

/// Returns the fields of a request. The value of a number has its eight bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = read_varint(&mut message);
        let value = read_varint(&mut message);
        if tag & 7 == 0 {
            fields.push((tag >> 3, value.to_le_bytes().to_vec()));
        } else {
            let (bytes, rest) = message.split_at(usize::try_from(value).expect("a length"));
            fields.push((tag >> 3, bytes.to_vec()));
            message = rest;
        }
    }
    fields
}

fn read_varint(message: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = message[0];
        *message = &message[1..];
        value |= u64::from(byte & 127) << shift;
        shift += 7;
        if byte < 128 {
            return value;
        }
    }
}

fn u64_of(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().expect("a number"))
}

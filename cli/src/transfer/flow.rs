//! The bytes of a blob in their order, from any offset on, again where need be. What comes from a
//! registry keeps its connection between two reads, and is hashed on the way.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use imgsync_oci::Digest;
use imgsync_oci::client::{self, Retry};
use imgsync_oci::digest::Hasher;
use tokio::sync::OwnedSemaphorePermit;

use super::body::{Body, Remote};
use crate::exit::{Failure, Kind};
use crate::source::Reader;

/// Why bytes could not be read.
#[derive(Debug)]
pub enum Unreadable {
    /// The disk or the archive on this side.
    Here(io::Error),
    /// The registry that they are at, or the line to it.
    There(client::Error),
    /// They are not what they should be.
    Wrong(String),
}

impl Unreadable {
    /// Whether reading again may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::There(error) => error.retry(),
            Self::Here(_) | Self::Wrong(_) => Retry::Never,
        }
    }

    /// The failure that this is, of the blob that people call `label`.
    pub fn failure(self, label: &str) -> Failure {
        match self {
            Self::Here(error) => {
                let what = format!("source: cannot read {label}: {error}");
                Failure::new(Kind::Source, what)
            }
            Self::There(error) => Failure::at_source(error),
            Self::Wrong(what) => Failure::new(Kind::Source, format!("source: {label}: {what}")),
        }
    }
}

/// Reads a [`Body`].
pub struct Flow {
    body: Body,
    reading: Reading,
    hashed: Option<Hashed>,
}

enum Reading {
    Closed,
    Slice {
        reader: Reader,
        at: u64,
    },
    Stream {
        pieces: BoxStream<'static, Result<Bytes, client::Error>>,
        /// What was taken from it, and not yielded yet.
        rest: Bytes,
        at: u64,
        /// Whether it has yielded anything: one that has is worth being opened anew.
        moved: bool,
        _place: Option<OwnedSemaphorePermit>,
    },
}

/// The hash of the first `len` bytes.
struct Hashed {
    hasher: Hasher,
    len: u64,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Flow {
    /// Opens nothing yet.
    pub fn new(body: Body) -> Self {
        let hashed = match &body {
            // Whoever laid it there has looked at every byte.
            Body::Here(_) => None,
            Body::There(remote) => Some(Hashed {
                hasher: Hasher::new(remote.digest.algorithm()),
                len: 0,
            }),
        };
        Self {
            body,
            reading: Reading::Closed,
            hashed,
        }
    }

    /// Opens what is far away, so that the next read at `offset` need not wait for that: with all
    /// the patience that its client has.
    ///
    /// # Errors
    /// The bytes are not to be had.
    pub async fn ready(&mut self, offset: u64) -> Result<(), Unreadable> {
        if let Body::There(remote) = &self.body
            && !self.reading.is_at(offset)
            && offset < remote.size
        {
            // What is open may hold the place that the new one waits for.
            self.reading = Reading::Closed;
            self.reading = open(remote, offset).await?;
        }
        Ok(())
    }

    /// At most `most` of the bytes from `offset` on, and at least one, unless the blob ends there.
    /// A line that breaks after it has yielded something is taken up again at once.
    ///
    /// # Errors
    /// The bytes are not to be had, or not all of those before are what they should be: that is
    /// noticed at the last of them, where all were read from the first on.
    pub async fn read(&mut self, offset: u64, most: u64) -> Result<Bytes, Unreadable> {
        let piece = match &self.body {
            Body::Here(_) => self.read_here(offset, most).await?,
            Body::There(remote) if offset >= remote.size => Bytes::new(),
            Body::There(_) => self.read_there(offset, most).await?,
        };
        // Its place goes to the next blob at once: this one may have to wait for others.
        if let Body::There(remote) = &self.body
            && offset + piece.len() as u64 == remote.size
        {
            self.reading = Reading::Closed;
        }
        self.hash(offset, &piece)?;
        Ok(piece)
    }

    async fn read_here(&mut self, offset: u64, most: u64) -> Result<Bytes, Unreadable> {
        let Body::Here(slice) = &self.body else {
            return Ok(Bytes::new());
        };
        let slice = slice.clone();
        let reading = std::mem::replace(&mut self.reading, Reading::Closed);
        let next = tokio::task::spawn_blocking(move || {
            let mut reader = match reading {
                Reading::Slice { reader, at } if at == offset => reader,
                Reading::Slice { .. } | Reading::Closed | Reading::Stream { .. } => {
                    slice.read_from(offset)?
                }
            };
            let mut piece = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
            reader.by_ref().take(most).read_to_end(&mut piece)?;
            Ok((Bytes::from(piece), reader))
        });
        let next = next.await;
        let next = next.unwrap_or_else(|_| Err(io::Error::other("the reading thread died")));
        let (piece, reader) = next.map_err(Unreadable::Here)?;
        let at = offset + piece.len() as u64;
        self.reading = Reading::Slice { reader, at };
        Ok(piece)
    }

    async fn read_there(&mut self, offset: u64, most: u64) -> Result<Bytes, Unreadable> {
        loop {
            self.ready(offset).await?;
            let Reading::Stream {
                pieces,
                rest,
                at,
                moved,
                ..
            } = &mut self.reading
            else {
                return Ok(Bytes::new());
            };
            if rest.is_empty() {
                match pieces.next().await {
                    Some(Ok(piece)) => *rest = piece,
                    Some(Err(error)) => {
                        let again = *moved && matches!(error.retry(), Retry::After(_));
                        self.reading = Reading::Closed;
                        match again {
                            true => continue,
                            false => return Err(Unreadable::There(error)),
                        }
                    }
                    None => return Err(self.too_short(offset)),
                }
                continue;
            }
            *moved = true;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let piece = rest.split_to(rest.len().min(most));
            *at += piece.len() as u64;
            return Ok(piece);
        }
    }

    fn too_short(&mut self, offset: u64) -> Unreadable {
        self.reading = Reading::Closed;
        Unreadable::Wrong(format!("it ends after {offset} bytes"))
    }

    /// Takes in what was read, and checks all of it at the end.
    fn hash(&mut self, offset: u64, piece: &Bytes) -> Result<(), Unreadable> {
        let (Some(hashed), Body::There(remote)) = (&mut self.hashed, &self.body) else {
            return Ok(());
        };
        let known = hashed.len.checked_sub(offset);
        let news = known.and_then(|known| {
            let known = usize::try_from(known).ok()?;
            Some(piece.get(known..).unwrap_or_default())
        });
        let Some(news) = news else {
            // An earlier run sent what lies before: whoever has it must check.
            self.hashed = None;
            return Ok(());
        };
        hashed.hasher.update(news);
        hashed.len += news.len() as u64;
        if hashed.len < remote.size {
            return Ok(());
        }
        let Some(hashed) = self.hashed.take() else {
            return Ok(());
        };
        let found: Digest = hashed.hasher.finish();
        match found == remote.digest {
            true => Ok(()),
            false => Err(Unreadable::Wrong(format!(
                "it sent content of {found} where {} was asked for",
                remote.digest
            ))),
        }
    }
}

impl Reading {
    fn is_at(&self, offset: u64) -> bool {
        match self {
            Self::Closed => false,
            Self::Slice { at, .. } | Self::Stream { at, .. } => *at == offset,
        }
    }
}

async fn open(remote: &Remote, offset: u64) -> Result<Reading, Unreadable> {
    let Remote {
        client,
        repository,
        digest,
        size,
        places,
    } = remote;
    let place = match places {
        Some(places) => Arc::clone(places).acquire_owned().await.ok(),
        None => None,
    };
    let found = client.open_blob(repository, digest, offset).await;
    let found = found.map_err(Unreadable::There)?.ok_or_else(|| {
        let registry = client.registry();
        Unreadable::Wrong(format!("{registry}/{repository} has no {digest}"))
    })?;
    if let Some(said) = found.size.filter(|said| said != size) {
        let what = format!("it has {said} bytes where the manifest says {size}");
        return Err(Unreadable::Wrong(what));
    }
    Ok(Reading::Stream {
        pieces: found.skip_to(offset),
        rest: Bytes::new(),
        at: offset,
        moved: false,
        _place: place,
    })
}

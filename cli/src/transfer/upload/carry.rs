//! One session, from where it stands to its end: in chunks, or as one piece.

use http::StatusCode;
use imgsync_oci::client::Error;
use imgsync_oci::client::upload::Session;

use super::super::host::Way;
use super::super::refusal::{self, Next, Refused, Said};
use super::super::sending::Fault;
use super::{Ended, Upload};
use crate::exit::Failure;

impl Upload<'_> {
    /// Carries a session to its end, chunk by chunk.
    pub(super) async fn in_chunks(&mut self, session: &mut Session) -> Result<Ended, Failure> {
        let client = &self.line.client;
        loop {
            let before = session.offset();
            let step = if before < self.blob.size {
                self.share_slot().await;
                self.bytes.chunk(session).await
            } else {
                self.wait_for_the_others().await?;
                match client.finish_upload(session, &self.blob.digest).await {
                    Ok(()) => return Ok(Ended::Finished),
                    Err(error) => Err(Fault::Line(error)),
                }
            };
            match step {
                Ok(()) => {
                    self.entry.save(session);
                    self.taken = session.offset();
                    self.chunks += 1;
                    self.note_progress(session);
                    if session.offset() > before {
                        continue;
                    }
                    self.pause(self.nothing_kept()).await?;
                }
                Err(Fault::Source(error)) => self.pause_for_source(error).await?,
                Err(Fault::Limit(failure)) => return Err(failure),
                Err(Fault::TooLarge) => continue,
                Err(Fault::Refused(error, status)) => {
                    match self.sort_out(session, error, status).await? {
                        Some(ended) => return Ok(ended),
                        None => continue,
                    }
                }
                Err(Fault::Line(error)) if before == self.blob.size => {
                    if self.was_spoilt(&error) {
                        return Ok(Ended::Lost);
                    }
                    let refused = error.status().is_some_and(refusal::is_about_the_request);
                    if refused && self.chunks > 1 && !self.resumed {
                        // All went well, and it did not put the chunks together.
                        return Ok(Ended::Unfit(error));
                    }
                    self.pause(error).await?;
                    if self.is_there().await? {
                        // Only the answer to the finish was lost.
                        return Ok(Ended::Finished);
                    }
                }
                Err(Fault::Line(error)) => {
                    self.pause(error).await?;
                    if self.is_doubted {
                        return Ok(Ended::Lost);
                    }
                }
            }
            match client.upload_offset(session).await {
                Ok(true) if session.offset() <= self.blob.size => {}
                Ok(true | false) => return Ok(Ended::Lost),
                Err(error) => self.pause(error).await?,
            }
            self.note_progress(session);
            self.report.position(&self.blob.digest, session.offset());
        }
    }

    /// A chunk was refused for what it is; yields how the session ended, unless it goes on.
    async fn sort_out(
        &mut self,
        session: &mut Session,
        error: Error,
        status: StatusCode,
    ) -> Result<Option<Ended>, Failure> {
        let first = session.offset();
        self.refusals += 1;
        let refused = Refused {
            status,
            first,
            taken: self.taken,
            is_clean: !self.resumed,
            times: self.refusals,
        };
        let said = match self.line.client.upload_offset(session).await {
            Ok(true) if session.offset() <= self.blob.size => Said::Holds(session.offset()),
            Ok(true | false) => Said::Nothing,
            Err(error) => {
                self.pause(error).await?;
                return Ok(None);
            }
        };
        match refusal::next(refused, said) {
            Next::From(at) => {
                session.go_on_at(at);
                self.wait(error, None).await?;
                self.report.position(&self.blob.digest, at);
                Ok(None)
            }
            Next::Anew => Ok(Some(Ended::Lost)),
            Next::AnotherWay => Ok(Some(Ended::Unfit(error))),
        }
    }

    /// Sends the blob in one piece, and finishes it.
    pub(super) async fn in_one(&mut self, session: &mut Session) -> Result<Ended, Failure> {
        if self.way == Way::Whole {
            // The request that brings the bytes makes them count.
            self.wait_for_the_others().await?;
        } else {
            self.share_slot().await;
        }
        match self.bytes.whole(session, self.way).await {
            Ok(()) => {}
            Err(Fault::Source(error)) => {
                self.pause_for_source(error).await?;
                return Ok(Ended::Again);
            }
            Err(Fault::Limit(failure)) => return Err(failure),
            Err(Fault::TooLarge) => return Ok(Ended::Again),
            Err(Fault::Refused(error, status)) => {
                self.refusals += 1;
                let gone = status == StatusCode::NOT_FOUND && self.refusals == 1;
                return Ok(match gone {
                    true => Ended::Lost,
                    false => Ended::Unfit(error),
                });
            }
            Err(Fault::Line(error)) => {
                self.pause(error).await?;
                return Ok(match self.is_there().await? {
                    true => Ended::Finished,
                    false => Ended::Again,
                });
            }
        }
        if self.way == Way::Whole {
            return Ok(Ended::Finished);
        }
        self.wait_for_the_others().await?;
        let client = &self.line.client;
        loop {
            let Err(error) = client.finish_upload(session, &self.blob.digest).await else {
                return Ok(Ended::Finished);
            };
            if error.status().is_some_and(refusal::is_about_the_request) {
                return Ok(Ended::Unfit(error));
            }
            self.pause(error).await?;
            if self.is_there().await? {
                return Ok(Ended::Finished);
            }
        }
    }

    /// Takes in whether the registry has come further than ever before in this session; only that
    /// is progress, or a registry that forgets would be fed for ever.
    fn note_progress(&mut self, session: &Session) {
        if session.offset() > self.confirmed {
            self.confirmed = session.offset();
            self.faults = 0;
            if self.confirmed > self.best {
                self.best = self.confirmed;
                self.lost = 0;
            }
            // The first chunk of a session proves little: some take one and no more.
            if self.chunks > 1 || self.resumed {
                self.refusals = 0;
            }
        }
    }

    fn nothing_kept(&self) -> Error {
        Error::Broken {
            registry: self.line.client.registry().clone(),
            operation: "PATCH of an upload".to_owned(),
            what: "the registry took a chunk and kept no more than before".to_owned(),
        }
    }

    /// Whether a finish failed because the bytes that were sent before a fault are not what they
    /// should be: worth a new session.
    fn was_spoilt(&mut self, error: &Error) -> bool {
        let refused = error.status() == Some(StatusCode::BAD_REQUEST);
        let spoilt = refused && std::mem::take(&mut self.resumed);
        self.is_doubted |= spoilt;
        spoilt
    }
}

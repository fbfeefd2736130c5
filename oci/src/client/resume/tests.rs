//! Tests of downloads that are resumed, against a server that drops its connections.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::client::UrlScheme;

const BLOB: &[u8] = b"0123456789";

/// One answer of the server.
enum Answer {
    /// Sends this number of bytes of the requested range, then closes the connection.
    Part(usize),
    /// Sends the whole blob and ignores the requested range.
    Whole,
    /// Answers with a status and no body.
    Status(&'static str),
    /// Sends a range of a blob of another size.
    OtherSize,
    /// Sends a range that was not requested.
    OtherRange,
}

/// Starts a server that sends one answer on each connection. Returns a download from it, and a
/// channel with the offsets of the requests.
fn serve(answers: Vec<Answer>) -> (ResumingDownload, Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, offsets) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let offset = read_offset(&stream);
            sender.send(offset).unwrap();
            write_answer(&stream, &answer, usize::try_from(offset).unwrap());
        }
    });
    let client = Client::new(&address.parse().unwrap(), UrlScheme::Http).unwrap();
    let client = client.with_max_attempts(1);
    let repository = "team/app".parse().unwrap();
    let download = ResumingDownload::new(client, repository, Digest::of(BLOB), 0);
    (download, offsets)
}

fn read_offset(stream: &TcpStream) -> u64 {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| {
        let line = line.to_lowercase();
        let offset = line.strip_prefix("range: bytes=")?.strip_suffix('-')?;
        offset.parse().ok()
    });
    range.unwrap_or(0)
}

fn write_answer(mut stream: &TcpStream, answer: &Answer, offset: usize) {
    let (len, rest) = (BLOB.len(), &BLOB[offset..]);
    let partial = |size: usize| {
        let (last, rest_len) = (len - 1, rest.len());
        format!(
            "206 Partial Content\r\ncontent-range: bytes {offset}-{last}/{size}\r\ncontent-length: {rest_len}"
        )
    };
    let ok = format!("200 OK\r\ncontent-length: {len}");
    let (head, body) = match answer {
        Answer::Part(count) if offset == 0 => (ok, &BLOB[..*count]),
        Answer::Part(count) => (partial(len), &rest[..*count]),
        Answer::Whole => (ok, BLOB),
        Answer::Status(status) => (format!("{status}\r\ncontent-length: 0"), &[][..]),
        Answer::OtherSize => (ok.replace("10", "11"), &BLOB[..1]),
        Answer::OtherRange => (partial(len).replace("bytes 3-", "bytes 4-"), rest),
    };
    write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").unwrap();
    stream.write_all(body).unwrap();
}

async fn read_all(download: &mut ResumingDownload) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = download.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_download_continues_at_its_offset() {
    let (mut download, offsets) = serve(vec![Answer::Part(3), Answer::Part(4), Answer::Part(3)]);
    assert!(download.open().await.unwrap());
    assert_eq!((download.offset(), download.size()), (0, Some(10)));
    assert_eq!(read_all(&mut download).await.unwrap(), BLOB);
    assert_eq!(offsets.iter().collect::<Vec<_>>(), [0, 3, 7]);
    assert_eq!(download.offset(), 10);
}

#[tokio::test]
async fn bytes_that_arrived_before_are_skipped_if_ranges_are_ignored() {
    let (mut download, offsets) = serve(vec![Answer::Part(3), Answer::Whole]);
    assert_eq!(read_all(&mut download).await.unwrap(), BLOB);
    assert_eq!(offsets.iter().collect::<Vec<_>>(), [0, 3]);
}

#[tokio::test]
async fn a_transient_error_of_the_registry_is_retried() {
    let busy = "503 Service Unavailable";
    let answers = vec![Answer::Part(3), Answer::Status(busy), Answer::Part(7)];
    let (mut download, offsets) = serve(answers);
    assert_eq!(read_all(&mut download).await.unwrap(), BLOB);
    assert_eq!(offsets.iter().collect::<Vec<_>>(), [0, 3, 3]);
}

#[tokio::test]
async fn errors_without_progress_are_limited() {
    let answers = vec![Answer::Part(3), Answer::Part(0), Answer::Part(0)];
    let (download, offsets) = serve(answers);
    let mut download = download.with_max_faults(2);
    let error = read_all(&mut download).await.unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error}");
    assert_eq!(offsets.iter().collect::<Vec<_>>(), [0, 3, 3]);
    assert_eq!(download.offset(), 3);

    let (download, offsets) = serve(vec![Answer::Part(0)]);
    let mut download = download.with_max_faults(1);
    assert!(read_all(&mut download).await.is_err());
    assert_eq!(offsets.iter().collect::<Vec<_>>(), [0]);
}

#[tokio::test]
async fn a_permanent_error_ends_the_download() {
    let answers = vec![Answer::Part(3), Answer::Status("403 Forbidden")];
    let (mut download, offsets) = serve(answers);
    let error = read_all(&mut download).await.unwrap_err();
    assert_eq!(error.status(), Some(http::StatusCode::FORBIDDEN));
    assert_eq!(offsets.iter().collect::<Vec<_>>(), [0, 3]);

    for (answer, has_changed) in [(Answer::OtherSize, true), (Answer::OtherRange, false)] {
        let (mut download, _offsets) = serve(vec![Answer::Part(3), answer]);
        let error = read_all(&mut download).await.unwrap_err();
        assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
        assert_eq!(download.has_changed(), has_changed, "{error}");
    }
}

#[tokio::test]
async fn a_missing_blob_is_no_error_but_one_that_vanishes_is() {
    let missing = || Answer::Status("404 Not Found");
    let (mut download, _offsets) = serve(vec![missing()]);
    assert!(!download.open().await.unwrap());
    let (mut download, _offsets) = serve(vec![Answer::Part(3), missing()]);
    let error = read_all(&mut download).await.unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
    assert!(download.has_changed());
}

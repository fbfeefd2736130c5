//! Servers that end, and clients that give up, during an assembly.

use super::*;

/// Kills the server at several moments of an assembly. Afterwards nothing of it is left or visible, and
/// the client can ask again for the same session.
#[tokio::test]
async fn a_killed_server_leaves_nothing_and_can_be_asked_again() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let old = layer_pairs::sources(false, 1500, 8000);
    let new = layer_pairs::sources(true, 1500, 8000);
    let mut assembly = Assembly::prepare(&server, "a", &old, &new).await;
    let session = assembly.upload(&server, "a").await;
    for percent in [0, 1, 50, 90] {
        assert_eq!(assembly.post(&server, "a").await.status(), 202);
        let threshold = new.len() as u64 * percent / 100;
        let was_held = wait_until_done(&assembly, &server, threshold).await;
        server.kill_and_restart();
        assert_eq!(temporary_files(root.path()), Vec::<PathBuf>::new());
        assert_eq!(assembly.poll(&server, "a").await, None);
        assert_nothing_is_lost(&assembly, &server, &session, was_held).await;
    }
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    assembly.assert_held(&assembly.wait(&server, "a").await);
    let path = format!("/v2/a/blobs/{}", assembly.digest());
    let blob = server.get(&path).await;
    assert!(blob.bytes().await.unwrap() == assembly.expected);
}

/// Panics unless the layer or the session is there after a restart. The assembly may have ended between
/// the last look at it and the end of the server.
async fn assert_nothing_is_lost(
    assembly: &Assembly,
    server: &Server,
    session: &str,
    was_held: bool,
) {
    let is_held = assembly.has_blob(server, "a").await;
    let status = server.get(session).await.status();
    if was_held {
        assert_eq!((is_held, status), (true, StatusCode::NOT_FOUND));
    } else if !is_held {
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
}

/// Waits until this many bytes are done. Returns whether the layer is held: it went too fast.
async fn wait_until_done(assembly: &Assembly, server: &Server, threshold: u64) -> bool {
    loop {
        match assembly.poll(server, "a").await {
            Some(AssemblyState::Working { done, .. }) if done < threshold => {}
            Some(AssemblyState::Working { .. }) => return false,
            Some(AssemblyState::Held { .. }) => return true,
            state => panic!("{state:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_shuts_down_drops_the_assembly_and_keeps_the_session() {
    let root = tempfile::tempdir().unwrap();
    let mut server = Server::start(root.path());
    let old = layer_pairs::sources(false, 1500, 8000);
    let new = layer_pairs::sources(true, 1500, 8000);
    let mut assembly = Assembly::prepare(&server, "a", &old, &new).await;
    let session = assembly.upload(&server, "a").await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    let was_held = wait_until_done(&assembly, &server, 1).await;
    server.terminate();
    assert!(server.wait().success());
    // On a busy machine, the thread may not stop in time. The next start then removes its file.
    if !server.log().contains("did not stop in time") {
        assert_eq!(temporary_files(root.path()), Vec::<PathBuf>::new());
    }
    let server = Server::start(root.path());
    assert_eq!(temporary_files(root.path()), Vec::<PathBuf>::new());
    assert_nothing_is_lost(&assembly, &server, &session, was_held).await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    assembly.assert_held(&assembly.wait(&server, "a").await);
}

#[tokio::test]
async fn a_client_that_deletes_the_session_cancels_the_assembly() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path());
    let old = layer_pairs::sources(false, 1500, 8000);
    let new = layer_pairs::sources(true, 1500, 8000);
    let mut assembly = Assembly::prepare(&server, "a", &old, &new).await;
    let session = assembly.upload(&server, "a").await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    let deleted = client().delete(server.url(&session)).send().await.unwrap();
    if deleted.status() == 404 {
        // The push was too fast to be killed.
        assembly.assert_held(&assembly.wait(&server, "a").await);
        return;
    }
    assert_eq!(deleted.status(), 204);
    assert_eq!(server.get(&session).await.status(), 404);
    if let Some(state) = assembly.poll(&server, "a").await {
        assembly.assert_held(&state);
    }
    assert_eq!(temporary_files(root.path()), Vec::<PathBuf>::new());
}

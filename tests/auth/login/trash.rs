//! Tests `rm --repository` and `undelete`.

use super::LoginFixture;
use crate::support::prelude::*;

#[test]
fn tags_and_repositories_are_deleted_and_restored() {
    let fixture = LoginFixture::new();
    let server = Server::start(&fixture.scratch.folder("root"));
    let host = server.address().to_string();
    let repository = format!("{host}/team/app");
    let name = |tag: &str| format!("{repository}:{tag}");
    fixture.push(&["--tag", "v2"], &name("v1")).succeeded();
    fixture.push(&[], &format!("{host}/other:v1")).succeeded();
    let lines = |arguments: &[&str]| fixture.run(arguments).succeeded().stdout;

    let deleted = fixture.run(&["rm", &name("v1")]).succeeded();
    assert_eq!(deleted.stdout, format!("deleted {}\n", name("v1")));
    let remedy = format!("to restore it: imgsync undelete {}\n", name("v1"));
    assert_eq!(deleted.stderr, remedy);
    assert_eq!(
        lines(&["undelete", &name("v1")]),
        format!("restored {}\n", name("v1"))
    );
    assert_eq!(lines(&["ls", &repository]), "v1\nv2\n");
    let exists = fixture.run(&["undelete", &name("v1")]).succeeded();
    assert!(exists.stderr.contains("nothing to restore"), "{exists}");

    fixture
        .run(&["rm", "--repository", &name("v1")])
        .failed(2, &["the name has a tag or a digest"]);
    let deleted = fixture
        .run(&["rm", "--repository", &repository])
        .succeeded();
    assert_eq!(deleted.stdout, format!("deleted {repository}\n"));
    assert!(
        deleted.stderr.contains("deleted 2 tags and 1 manifest;"),
        "{deleted}"
    );
    assert_eq!(lines(&["ls", &host]), "other\n");
    fixture
        .run(&["rm", "--repository", &repository])
        .failed(4, &["has no repository team/app"]);
    let restored = format!("restored {}\nrestored {}\n", name("v1"), name("v2"));
    let mut found: Vec<String> = lines(&["undelete", &repository])
        .lines()
        .map(|line| format!("{line}\n"))
        .collect();
    found.sort();
    assert_eq!(found.concat(), restored);
    lines(&["inspect", &name("v2")]);
    fixture
        .run(&["undelete", &name("v3")])
        .failed(4, &["team/app:v3 is not in the trash", "or is gone"]);
}

#[test]
fn other_registries_delete_tag_by_tag_and_restore_nothing() {
    if !programs_available(&["docker-registry"]) {
        return;
    }
    let fixture = LoginFixture::new();
    for is_delete_enabled in [true, false] {
        let root = fixture
            .scratch
            .folder(&format!("stock-{is_delete_enabled}"));
        let delete = format!(", delete: {{enabled: {is_delete_enabled}}}");
        let stock = StockRegistry::start_configured(&root, &delete, "", "");
        let repository = format!("{}/team/app", stock.address());
        let name = |tag: &str| format!("{repository}:{tag}");
        fixture.push(&["--tag", "v2"], &name("v1")).succeeded();
        let single = fixture.run(&["rm", &name("v2")]);
        assert!(!single.stderr.contains("undelete"), "{single}");
        fixture.push(&["--tag", "v2"], &name("v1")).succeeded();
        let deleted = fixture.run(&["rm", "--repository", &repository]);
        if is_delete_enabled {
            let deleted = deleted.succeeded();
            let expected = format!("deleted {}\ndeleted {}\n", name("v1"), name("v2"));
            assert_eq!(deleted.stdout, expected);
            fixture
                .run(&["inspect", &name("v1")])
                .failed(4, &["there is no"]);
        } else {
            let words = ["2 of 2 tags", "v1, v2", "storage.delete.enabled"];
            deleted.failed(4, &words);
            fixture.run(&["inspect", &name("v1")]).succeeded();
        }
        fixture
            .run(&["undelete", &name("v1")])
            .failed(4, &["cannot restore what was deleted", "imgsync-server"]);
    }
}

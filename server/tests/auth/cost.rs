//! Tests the CPU cost of logins, and floods of wrong passwords.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{AuthServer, PASSWORD};
use crate::support::prelude::*;
use reqwest::Client;

/// The stock registry computes a bcrypt hash for every request, and a cheap one for unknown users,
/// so the response time reveals which users exist.
#[tokio::test]
async fn a_login_is_hashed_once_and_timing_does_not_reveal_users() {
    let _logins = serial::logins().await;
    let users: Vec<String> = (0..7).map(|number| format!("user{number}")).collect();
    let mut all: Vec<_> = users.iter().map(|user| (user.as_str(), "10")).collect();
    all.push(("cheap", "4"));
    let auth = AuthServer::with_users("", &all);
    let client = client();
    let url = auth.server.url("/v2/");
    let time = async |user: &str, password: &str, expected: u16| {
        let began = Instant::now();
        let request = client.get(&url).basic_auth(user, Some(password));
        assert_eq!(request.send().await.unwrap().status(), expected);
        began.elapsed()
    };
    client.get(&url).send().await.unwrap();
    let (mut first, mut again) = (Vec::new(), Vec::new());
    let (mut wrong, mut cheap, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for user in &users {
        first.push(time(user, PASSWORD, 200).await);
        again.push(time(user, PASSWORD, 200).await);
        wrong.push(time(user, "x", 401).await);
        cheap.push(time("cheap", "x", 401).await);
        unknown.push(time("nobody", "x", 401).await);
    }
    let [first, again, wrong, cheap, unknown] = [first, again, wrong, cheap, unknown].map(shortest);
    assert!(first > again * 3, "first {first:?}, again {again:?}");
    for other in [wrong, cheap] {
        let ratio = other.as_secs_f64() / unknown.as_secs_f64();
        assert!(
            (0.33..3.0).contains(&ratio),
            "wrong {other:?}, unknown {unknown:?}"
        );
    }
}

/// Returns the time that says most about the cost: a busy machine only makes requests slower.
fn shortest(times: Vec<Duration>) -> Duration {
    times.into_iter().min().unwrap()
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_is_limited_and_remembered_logins_work() {
    let _logins = serial::logins().await;
    let auth = AuthServer::with_users("", &[("alice", "10")]);
    let client = client();
    assert_eq!(auth.status_of("alice", PASSWORD).await, 200);
    let flood = (0..300).map(|number| {
        let request = client.get(auth.server.url("/v2/"));
        request.basic_auth("alice", Some(number.to_string())).send()
    });
    let status_of_alice = async |client: &Client| {
        let request = client.get(auth.server.url("/v2/"));
        let request = request.basic_auth("alice", Some(PASSWORD));
        request.send().await.unwrap().status()
    };
    let (answers, status) =
        futures::future::join(futures::future::join_all(flood), status_of_alice(&client)).await;
    assert_eq!(status, 200);
    let mut refused = 0;
    for answer in answers {
        let answer = answer.unwrap();
        match answer.status().as_u16() {
            401 => {}
            429 => {
                assert!(!header(&answer, "retry-after").is_empty());
                refused += 1;
                assert_error(answer, StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS").await;
            }
            other => panic!("{other}"),
        }
    }
    assert!(refused > 0);
    assert_eq!(auth.status_of("alice", "x").await, 401);
}

/// The flood and the right logins come through a trusted proxy, from different addresses.
#[tokio::test]
async fn a_flood_of_wrong_passwords_does_not_keep_out_first_logins_from_elsewhere() {
    let _logins = serial::logins().await;
    let users = ["bob", "carol", "dora"];
    let all: Vec<_> = users.iter().map(|user| (*user, "8")).collect();
    let auth = AuthServer::with(
        "",
        &all,
        &[("REGISTRY_IMGSYNC_TRUSTEDPROXIES", "127.0.0.1")],
    );
    let client = client();
    let login = async |from: &str, user: &str, password: &str| {
        let request = client.get(auth.server.url("/v2/"));
        let request = request.header("x-forwarded-for", from);
        let response = request.basic_auth(user, Some(password)).send().await;
        response.unwrap().status().as_u16()
    };
    let (is_flooded, is_done) = (Cell::new(false), Cell::new(false));
    let flood = futures::future::join_all((0..100).map(|number| {
        let (login, is_flooded, is_done) = (&login, &is_flooded, &is_done);
        async move {
            while !is_done.get() {
                // The names differ, so that only the address tells the flood from the others.
                let user = format!("user{number}");
                match login("192.0.2.1", &user, "wrong").await {
                    401 => {}
                    429 => is_flooded.set(true),
                    other => panic!("{other}"),
                }
            }
        }
    }));
    let log_in = async {
        let mut statuses = Vec::new();
        for user in users {
            is_flooded.set(false);
            while !is_flooded.get() {
                tokio::task::yield_now().await;
            }
            statuses.push(login("192.0.2.2", user, PASSWORD).await);
        }
        is_done.set(true);
        statuses
    };
    let (_, statuses) = futures::future::join(flood, log_in).await;
    assert_eq!(statuses, [200; 3]);
}

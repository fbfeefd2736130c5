//! What logins cost, and floods of wrong ones.

use std::time::{Duration, Instant};

use super::{PASSWORD, Setup};
use crate::support::prelude::*;
use reqwest::Client;

/// F13: the stock registry computes a bcrypt at every request, and a cheap one for users that it
/// does not know, so that time tells who they are.
#[tokio::test]
async fn a_login_costs_once_and_time_tells_nobodys_name() {
    let _logins = serial::logins().await;
    let users: Vec<String> = (0..7).map(|number| format!("user{number}")).collect();
    let mut all: Vec<_> = users.iter().map(|user| (user.as_str(), "10")).collect();
    all.push(("cheap", "4"));
    let setup = Setup::with_users("", &all);
    let client = client();
    let url = setup.server.url("/v2/");
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
    let [first, again, wrong, cheap, unknown] = [first, again, wrong, cheap, unknown].map(median);
    assert!(first > again * 10, "first {first:?}, again {again:?}");
    for other in [wrong, cheap] {
        let ratio = other.as_secs_f64() / unknown.as_secs_f64();
        let told = format!("wrong {other:?}, unknown {unknown:?}");
        assert!((0.33..3.0).contains(&ratio), "{told}");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_flood_of_passwords_is_turned_away_and_those_who_are_known_get_in() {
    let _logins = serial::logins().await;
    let setup = Setup::with_users("", &[("alice", "10")]);
    let client = client();
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    let flood = (0..300).map(|number| {
        let request = client.get(setup.server.url("/v2/"));
        request.basic_auth("alice", Some(number.to_string())).send()
    });
    let known = async |client: &Client| {
        let request = client.get(setup.server.url("/v2/"));
        let request = request.basic_auth("alice", Some(PASSWORD));
        request.send().await.unwrap().status()
    };
    let (answers, known) =
        futures::future::join(futures::future::join_all(flood), known(&client)).await;
    assert_eq!(known, 200);
    let mut turned_away = 0;
    for answer in answers {
        let answer = answer.unwrap();
        match answer.status().as_u16() {
            401 => {}
            429 => {
                assert!(!header(&answer, "retry-after").is_empty());
                turned_away += 1;
                faults(answer, StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS").await;
            }
            other => panic!("{other}"),
        }
    }
    assert!(turned_away > 0);
    assert_eq!(setup.status_of("alice", "x").await, 401);
}

//! The output of `imgsync-server config`.

use super::*;

#[test]
fn printed_values_have_their_source() {
    let variables = variables(&[
        ("REGISTRY_LOG_LEVEL", "warn"),
        ("REGISTRY_HTTP_HEADERS_Authorization", "[Bearer abc]"),
    ]);
    let loaded = parse_config(ConfigInput {
        file: Some((
            "c.yml",
            "version: 0.1\nlog: {fields: {a.b: 'x: y'}}\nstorage: filesystem\nhttp:\n  \
                              secret: swordfish\n  headers: {X-A: [nosniff, '']}\nauth: {htpasswd: {path: /p}}\n",
        )),
        variables: &variables,
        arguments: &[("--addr", "http.addr", ":0".to_owned())],
    });
    let printed = loaded.unwrap().to_yaml();
    assert_eq!(
        printed,
        r#"version: 0.1
log:
  level: warn  # REGISTRY_LOG_LEVEL
  formatter: text  # default
  fields:
    a.b: "x: y"  # c.yml:2
  accesslog:
    disabled: false  # default
storage:
  filesystem:
    rootdirectory: /var/lib/registry  # default
  delete:
    enabled: false  # default
  maintenance:
    uploadpurging:
      enabled: true  # default
      age: 168h  # default
      interval: 24h  # default
      dryrun: false  # default
    readonly:
      enabled: false  # default
auth:
  htpasswd:
    realm: Registry  # default
    path: /p  # c.yml:7
http:
  net: tcp  # default
  addr: :0  # --addr
  prefix: /  # default
  secret: "******"  # c.yml:5
  draintimeout: 60s  # default
  headers:
    X-A: [nosniff, ""]  # c.yml:6
    authorization: "******"  # REGISTRY_HTTP_HEADERS_Authorization
  http2:
    disabled: false  # default
  h2c:
    enabled: false  # default
catalog:
  maxentries: 1000  # default
tags:
  maxtags: 1000  # default
imgsync:
  gc:
    enabled: true  # default
    interval: 24h  # default
    grace: 24h  # default
    undo: 24h  # default
  delta:
    enabled: true  # default
    maxsize: 4GiB  # default
  page: true  # default
  trustedproxies: [127.0.0.0/8, ::1]  # default
  limits:
    connections: 512  # default
    connectionsperclient: 128  # default
    bodymemory: 64MiB  # default
    openuploads: 1000  # default
  headertimeout: 10s  # default
  bodytimeout: 60s  # default
  stall: 60s  # default
  writestall: 1h  # default
# imgsync.space.reserve: 5 % of the disk, at most 512 MB  # default
"#
    );
}

#[test]
fn printed_configuration_can_be_parsed_again() {
    let quirks = format!(
        "{BASE}auth: {{htpasswd: {{path: /p}}}}\nlog: {{level: WARN, fields: {{a: 'yes: #', b: \"line\\nend\", c: null, d: '~', 'e f': '- x'}}}}\n\
         imgsync: {{anonymous: {{pull: ['public/*', '*']}}, trustedproxies: [127.0.0.1/8, '::1']}}\n"
    );
    for text in [FULL, BASE, &quirks] {
        let mut first = load(text, &[]).unwrap();
        let again = load(&first.to_yaml(), &[]).unwrap_or_else(|errors| panic!("{errors}"));
        if first.config.http.secret.is_some() {
            first.config.http.secret = Some(Secret("******".to_owned()));
        }
        assert_eq!(first.config, again.config);
    }
}

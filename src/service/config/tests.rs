use std::collections::BTreeSet;

use super::*;

const DEFAULT: &str = include_str!("../../../packaging/pi0rtd.toml");

struct File(PathBuf);

impl File {
    fn of(text: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pi0rt-config-{}-{count}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Loads a text, and what the error says after the file's path.
fn load(text: &str) -> Result<Config, String> {
    let file = File::of(text);
    let path = file.0.display().to_string();
    Config::load(Some(&file.0), &[]).map_err(|error| error.to_string().replace(&path, "FILE"))
}

fn with(overrides: &[Override]) -> Result<Config, String> {
    Config::load(None, overrides).map_err(|error| error.to_string())
}

/// Every key, also those without a value.
fn keys() -> BTreeSet<String> {
    let some = Config {
        policy: PolicySection {
            checkpoint: Some("/c".into()),
            profile: Some("p".into()),
            control_rate_hz: Some(Hertz(12.5)),
            tokenizer: Some("/t".into()),
            steps: Some(Within(5)),
            recompute: true,
        },
        device: DeviceSection {
            name: DeviceName::Ttnn,
            precision: Some(PrecisionName::Int8),
            threads: Some(Within(3)),
            weight_cache: Some("/w".into()),
            ttnn: vec!["trace=off".into()],
        },
        clients: ClientsSection {
            socket: Some("/s".into()),
            group: Some(Group::Name("g".into())),
            max_clients_per_user: Some(Within(2)),
            max_memory_mb_per_user: Some(Within(3)),
            max_connections_per_user: Some(Within(4)),
            max_requests_per_user: Some(Within(5)),
            max_instructions_per_user: Some(Within(6)),
            ..ClientsSection::default()
        },
        metrics: MetricsSection {
            file: Some("/m.prom".into()),
            listen: Some("127.0.0.1:1".parse().unwrap()),
            ..MetricsSection::default()
        },
        ..Config::default()
    };
    let page = load(&some.page()).unwrap();
    assert_eq!(page, some);
    let table = Table::try_from(some).unwrap();
    let of = |(section, keys): (&String, &Value)| {
        keys.as_table().unwrap().keys().map(|key| format!("{section}.{key}")).collect::<Vec<_>>()
    };
    table.iter().flat_map(of).collect()
}

/// The keys of a template, with their sections.
fn explained(text: &str) -> Vec<(String, String)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some(key) = page::key(line) {
            found.push((format!("{section}.{key}"), line.trim_start_matches('#').to_owned()));
        }
    }
    found
}

#[test]
fn the_installed_file_explains_every_key_once_with_its_default() {
    assert_eq!(load(DEFAULT).unwrap(), Config::default());
    let listed: Vec<_> = explained(DEFAULT).into_iter().map(|(key, _)| key).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), keys());
    assert_eq!(listed.len(), keys().len());
    // Uncommented, each line is right by itself, and says the default where there is one.
    let page = Config::default().page();
    for (key, line) in explained(DEFAULT) {
        let section = key.split('.').next().unwrap();
        let text = if key == "device.ttnn" { String::new() } else { format!("[{section}]\n{line}\n") };
        load(&text).unwrap_or_else(|error| panic!("{key}: {error}"));
        let effective = page.lines().any(|shown| shown == line);
        let without = page.lines().any(|shown| shown == format!("#{line}"));
        assert!(effective || without, "{key}: {line}");
    }
    assert_eq!(load(&page).unwrap(), Config::default());
}

#[test]
fn the_documentation_names_every_key() {
    let documented = include_str!("../../../docs/configuration.md");
    for key in keys() {
        assert!(documented.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_place() {
    for (text, expected) in [
        (
            "[clients]\nmax_client = 3\n",
            "FILE:2:1: unknown field `max_client`, expected one of `socket`, `group`, `max_clients`, `max_memory_mb`, `max_clients_per_user`, `max_memory_mb_per_user`, `max_connections_per_user`, `max_requests_per_user`, `max_instructions_per_user`, `max_log_records_per_user`, `max_age_ms`",
        ),
        (
            "\n[client]\n",
            "FILE:2:2: unknown field `client`, expected one of `policy`, `device`, `clients`, `scheduling`, `supervision`, `metrics`, `log`",
        ),
        ("[clients]\n  max_clients = \"many\"\n", "FILE:2:17: invalid type: string \"many\", expected i64"),
        ("[clients]\nmax_clients = 0\n", "FILE:2:15: 0 is out of range, expected 1 to 1024"),
        ("[clients]\nmax_clients = 1025 # ü\n", "FILE:2:15: 1025 is out of range, expected 1 to 1024"),
        ("[clients]\nmax_age_ms = -1\n", "FILE:2:14: -1 is out of range, expected 0 to 3600000"),
        (
            "[device]\nname = \"gpu\"\n",
            "FILE:2:8: unknown variant `gpu`, expected one of `cpu`, `reference`, `ttnn`",
        ),
        ("[device]\nthreads = 2.5\n", "FILE:2:11: invalid type: floating point `2.5`, expected i64"),
        ("[metrics]\nlisten = \"9464\"\n", "FILE:2:10: invalid socket address syntax"),
        ("[clients]\ngroup = true\n", "FILE:2:9: expected the number or the name of a group"),
        ("[policy]\nrecompute = 1\n", "FILE:2:13: invalid type: integer `1`, expected a boolean"),
        ("[policy]\nsteps = 3\nsteps = 4\n", "FILE:3:1: duplicate key"),
        ("[policy\n", "FILE:1:8: unclosed table, expected `]`"),
        ("policy = 3\n", "FILE:1:10: invalid type: integer `3`, expected struct PolicySection"),
        (
            "[device]\nttnn = [\"trace=off\"]\n",
            "device.ttnn has options, and device.name is \"cpu\", expected \"ttnn\"",
        ),
    ] {
        assert_eq!(load(text).unwrap_err(), expected, "{text}");
    }
    let error = load("[log]\nlevel = \"loud\"\n").unwrap_err();
    assert!(error.starts_with("log.level \"loud\": "), "{error}");
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let directory = std::env::temp_dir();
    let missing = directory.join("pi0rt-no-such-file.toml");
    let error = Config::load(Some(&missing), &[]).unwrap_err().to_string();
    assert_eq!(error, format!("configuration {}: No such file or directory (os error 2)", missing.display()));
    let error = Config::load(Some(&directory), &[]).unwrap_err().to_string();
    assert_eq!(error, format!("configuration {}: not a file", directory.display()));
    let file = File::of("");
    std::fs::write(&file.0, b"[log]\nlevel = \"\xff\"\n").unwrap();
    let error = Config::load(Some(&file.0), &[]).unwrap_err().to_string();
    assert!(error.ends_with("stream did not contain valid UTF-8"), "{error}");
    std::fs::File::options().write(true).open(&file.0).unwrap().set_len(MAX_BYTES + 1).unwrap();
    let error = Config::load(Some(&file.0), &[]).unwrap_err().to_string();
    assert!(error.ends_with("1048577 bytes, expected at most 1048576"), "{error}");
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let variables = [
        ("PI0RTD_CLIENTS_MAX_CLIENTS", "3"),
        ("PI0RTD_DEVICE_NAME", "reference"),
        ("PI0RT_SOCKET", "/elsewhere"),
        ("PI0RTD_DEVICE_TTNN", "[]"),
        ("PI0RTD_POLICY_CHECKPOINT", "/path/with \"quotes\""),
    ];
    let mut overrides =
        Override::from_environment(variables.map(|(name, value)| (name.into(), value.into()))).unwrap();
    overrides.push(Override::flag("--max-clients", "clients", "max_clients", 4));
    let file = File::of("[clients]\nmax_clients = 2\nmax_age_ms = 9\n");
    let config = Config::load(Some(&file.0), &overrides).unwrap();
    assert_eq!((config.clients.max_clients, config.clients.max_age_ms), (Within(4), Within(9)));
    assert_eq!(config.device.name, DeviceName::Reference);
    assert_eq!(config.policy.checkpoint.unwrap().to_str(), Some("/path/with \"quotes\""));
    // What looks like a number is a string where a string is expected.
    let path = Override::flag("--checkpoint", "policy", "checkpoint", 12);
    assert_eq!(with(&[path]).unwrap().policy.checkpoint.unwrap().to_str(), Some("12"));
}

#[test]
fn what_is_wrong_elsewhere_is_named_with_where_it_came_from() {
    let from = |name: &str, value: &str| {
        Override::from_environment([(name.into(), value.into())])
            .map_err(|error| error.to_string())
            .and_then(|overrides| with(&overrides))
            .unwrap_err()
    };
    assert_eq!(
        from("PI0RTD_CLIENTS_MAX_CLIENTS", "many"),
        "PI0RTD_CLIENTS_MAX_CLIENTS: invalid type: string \"many\", expected i64"
    );
    assert_eq!(
        from("PI0RTD_CLIENTS_MAX_CLIENTS", "0"),
        "PI0RTD_CLIENTS_MAX_CLIENTS: 0 is out of range, expected 1 to 1024"
    );
    assert!(from("PI0RTD_CLIENTS_MAX", "1").starts_with("PI0RTD_CLIENTS_MAX: unknown field `max`, "));
    assert_eq!(from("PI0RTD_SOCKET", "/s"), "PI0RTD_SOCKET: expected PI0RTD_SECTION_KEY");
    // No value says more than one thing.
    let error = from("PI0RTD_CLIENTS_MAX_CLIENTS", "3\nmax_age_ms = 4");
    assert!(error.starts_with("PI0RTD_CLIENTS_MAX_CLIENTS: invalid type: string"), "{error}");
}

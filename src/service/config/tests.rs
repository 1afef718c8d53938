use std::collections::BTreeSet;

use super::*;
use crate::device::settings::{Settings, Takes};
use crate::device::{KINDS, Kind};

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

/// Loads a text; an error is returned without the file's path.
fn load(text: &str) -> Result<Config, String> {
    let file = File::of(text);
    let path = file.0.display().to_string();
    Config::load(Some(&file.0), &[]).map_err(|error| error.to_string().replace(&path, "FILE"))
}

fn with(overrides: &[Override]) -> Result<Config, String> {
    Config::load(None, overrides).map_err(|error| error.to_string())
}

/// A device with all of its settings.
fn whole(kind: &'static dyn Kind) -> DeviceSection {
    let mut settings = Settings::new(kind);
    for setting in kind.settings() {
        let value = match setting.takes {
            Takes::Whole(least, _) => least.to_string(),
            Takes::MultipleOf(of) => of.to_string(),
            Takes::Switch => "on".into(),
            Takes::OneOf(words) => words[0].0.into(),
            Takes::Path | Takes::PathOrSwitch => "/p".into(),
            Takes::Wholes => "16/48".into(),
        };
        settings.set(setting.name, &value, "here").unwrap();
    }
    let mut section = DeviceSection::default();
    section.kind = kind;
    section.put(&settings);
    section
}

/// The names of all devices, as messages list them.
fn devices() -> String {
    KINDS.iter().map(|kind| format!("`{}`", kind.name())).collect::<Vec<_>>().join(", ")
}

/// All keys, including those without a value.
fn keys() -> BTreeSet<String> {
    KINDS.iter().flat_map(|kind| keys_with(whole(*kind))).collect()
}

fn keys_with(device: DeviceSection) -> BTreeSet<String> {
    let some = Config {
        policy: PolicySection {
            checkpoint: Some("/c".into()),
            profile: Some("p".into()),
            control_rate_hz: Some(Hertz(12.5)),
            tokenizer: Some("/t".into()),
            steps: Some(Within(5)),
            recompute: true,
            prefix_every: Within(2),
        },
        device,
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
    crate::service::options::leaves(&Table::try_from(some).unwrap()).into_keys().collect()
}

/// The keys of a template, with their sections and lines.
fn explained(text: &str) -> Vec<(String, String, String)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some(key) = page::key(line) {
            found.push((
                format!("{section}.{key}"),
                section.to_owned(),
                line.trim_start_matches('#').to_owned(),
            ));
        }
    }
    found
}

#[test]
fn the_installed_file_explains_every_key_once_with_its_default() {
    assert_eq!(load(DEFAULT).unwrap(), Config::default());
    let listed: Vec<_> = explained(DEFAULT).into_iter().map(|(key, ..)| key).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), keys());
    assert_eq!(listed.len(), keys().len());
    // Uncommented, each line is valid by itself, and states the default if there is one.
    let page = Config::default().page();
    for (key, section, line) in explained(DEFAULT) {
        let device = section.strip_prefix("device.");
        let chosen = device.map_or(String::new(), |name| format!("device.name = {name:?}\n"));
        let text = format!("{chosen}[{section}]\n{line}\n");
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
            "FILE:2:2: unknown field `client`, expected one of `policy`, `guidance`, `checks`, `device`, `clients`, `scheduling`, `supervision`, `metrics`, `log`",
        ),
        ("[clients]\n  max_clients = \"many\"\n", "FILE:2:17: invalid type: string \"many\", expected i64"),
        ("[clients]\nmax_clients = 0\n", "FILE:2:15: 0 is out of range, expected 1 to 1024"),
        ("[clients]\nmax_clients = 1025 # ü\n", "FILE:2:15: 1025 is out of range, expected 1 to 1024"),
        ("[clients]\nmax_age_ms = -1\n", "FILE:2:14: -1 is out of range, expected 0 to 3600000"),
        ("[device]\nname = \"gpu\"\n", "FILE:2:8: unknown variant `gpu`, expected one of DEVICES"),
        (
            "[device.cpu]\nthreads = 2.5\n",
            "FILE:2:11: threads 2.5: not supported by device cpu: expected a whole number from 1 to 1024",
        ),
        (
            "[device]\nthreads = 0\n",
            "FILE:2:11: threads 0: not supported by device cpu: expected a whole number from 1 to 1024",
        ),
        (
            "[device.cpu]\nthread = 2\n",
            "FILE:2:1: thread: not an option of device cpu, expected one of precision, threads or weight_cache",
        ),
        ("[device.cpu]\ntrace = false\n", "FILE:2:1: trace: not an option of device cpu, only of ttnn"),
        (
            "[device]\nname = \"ttnn\"\n[device.ttnn.language]\nweights = \"int4\"\n",
            "FILE:4:11: language.weights int4: not supported by device ttnn: expected f32, bf16, bfp8 or bfp4",
        ),
        (
            "[device]\nttnn = [\"trace=maybe\"]\n",
            "FILE:2:8: trace maybe: not supported by device ttnn: expected on or off",
        ),
        ("[device.gpu]\n", "FILE:1:9: unknown field `gpu`, expected one of `name`, DEVICES"),
        (
            "[device]\nname = \"reference\"\n[device.cpu]\nthreads = 2\n",
            "device.cpu has options, and device.name is \"reference\", expected \"cpu\"",
        ),
        (
            "[device]\nname = \"reference\"\nthreads = 2\n",
            "device.threads: threads: not an option of device reference, only of cpu",
        ),
        (
            "[device]\nname = \"reference\"\nprecision = \"bf16\"\n",
            "device.precision: precision bf16: not supported by device reference: expected f32",
        ),
        (
            "[device]\nthreads = 4\n[device.cpu]\nthreads = 2\n",
            "device.cpu.threads is \"2\" and device.threads is \"4\", which are the same setting: leave one of them out",
        ),
        ("[metrics]\nlisten = \"9464\"\n", "FILE:2:10: invalid socket address syntax"),
        ("[clients]\ngroup = true\n", "FILE:2:9: expected the number or the name of a group"),
        ("[guidance]\nmax_weight = -1\n", "FILE:2:14: -1 is out of range, expected 0 to 1000000"),
        (
            "[policy]\ncontrol_rate_hz = 0\n",
            "FILE:2:19: 0 is out of range, expected more than 0 and at most 100000",
        ),
        ("[policy]\nrecompute = 1\n", "FILE:2:13: invalid type: integer `1`, expected a boolean"),
        ("[policy]\nsteps = 3\nsteps = 4\n", "FILE:3:1: duplicate key"),
        ("[policy\n", "FILE:1:8: unclosed table, expected `]`"),
        ("policy = 3\n", "FILE:1:10: invalid type: integer `3`, expected struct PolicySection"),
        (
            "[device]\nttnn = [\"trace=off\"]\n",
            "device.ttnn has options, and device.name is \"cpu\", expected \"ttnn\"",
        ),
    ] {
        assert_eq!(load(text).unwrap_err(), expected.replace("DEVICES", &devices()), "{text}");
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
    assert_eq!(config.device.kind.name(), "reference");
    assert_eq!(config.policy.checkpoint.unwrap().to_str(), Some("/path/with \"quotes\""));
    // A value that looks like a number is a string where a string is expected.
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
    // An override can't set more than one key.
    let error = from("PI0RTD_CLIENTS_MAX_CLIENTS", "3\nmax_age_ms = 4");
    assert!(error.starts_with("PI0RTD_CLIENTS_MAX_CLIENTS: invalid type: string"), "{error}");
}

#[test]
fn settings_of_a_device_are_found_in_their_former_places() {
    let said = |text: &str| {
        let config = load(text).unwrap();
        let settings = config.device.chosen();
        let values: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (values.join(" "), config.moved)
    };
    let now = said("[device.cpu]\nthreads = 2\nprecision = \"int8\"\nweight_cache = \"/w\"\n");
    assert_eq!(now, ("precision=int8 threads=2 weight_cache=/w".into(), vec![]));
    let (values, moved) = said("[device]\nthreads = 2\nprecision = \"int8\"\nweight_cache = \"/w\"\n");
    assert_eq!(values, now.0);
    for key in ["precision", "threads", "weight_cache"] {
        assert!(moved.contains(&format!("device.{key} is now {key} in section [device.cpu]")), "{moved:?}");
    }
    // Of the device that is chosen.
    let (values, moved) = said("[device]\nprecision = \"f32\"\nname = \"reference\"\n");
    assert_eq!(values, "precision=f32");
    assert_eq!(moved, ["device.precision is now precision in section [device.reference]"]);
    // Given twice with the same value.
    let (values, moved) = said("[device]\nthreads = 2\n[device.cpu]\nthreads = 2\n");
    assert_eq!((&*values, moved.len()), ("threads=2", 1));
    let table = "[device]\nname = \"ttnn\"\n[device.ttnn]\ntrace = false\nlanguage.weights = \"bfp8\"\n\
                 text_lengths = [16, 32]\n\"expert.fidelity\" = \"HiFi2\"\n";
    let now = said(table);
    let values = "expert.fidelity=hifi2 language.weights=bfp8 text_lengths=16/32 trace=off";
    assert_eq!(now, (values.into(), vec![]));
    let (values, moved) = said(
        "[device]\nname = \"ttnn\"\nttnn = [\"trace=off\", \"language.weights=bfp8\", \"text_lengths=16/32\", \
         \"expert.fidelity=hifi2\"]\n",
    );
    assert_eq!(values, now.0);
    assert_eq!(moved, ["device.ttnn is now section [device.ttnn], with a key for each option"]);
    // A setting read from a former place is written to the current one.
    let config = load("[device]\nthreads = 2\n").unwrap();
    let again = load(&config.page()).unwrap();
    assert_eq!((again.device, again.moved), (config.device, vec![]));
}

#[test]
fn settings_of_a_device_come_from_file_environment_and_flags() {
    let file = File::of("[device]\nthreads = 2\nprecision = \"f32\"\n");
    let values = |variables: &[(&str, &str)], flags: &[(&str, &str, &str)]| {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let mut overrides = Override::from_environment(variables).unwrap();
        overrides.extend(flags.iter().map(|(flag, key, value)| Override::flag(flag, "device", key, value)));
        let config = Config::load(Some(&file.0), &overrides).map_err(|error| error.to_string())?;
        let settings = config.device.chosen();
        let values: Vec<_> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok::<_, String>((values.join(" "), config.moved))
    };
    let of_file =
        ["precision", "threads"].map(|key| format!("device.{key} is now {key} in section [device.cpu]"));
    // A later source overrides without a contradiction.
    let (said, moved) = values(&[("PI0RTD_DEVICE_CPU_THREADS", "3")], &[]).unwrap();
    assert_eq!((&*said, &moved[..]), ("precision=f32 threads=3", &of_file[..]));
    let (said, _) = values(&[("PI0RTD_DEVICE_CPU_THREADS", "3")], &[("--threads", "threads", "4")]).unwrap();
    assert_eq!(said, "precision=f32 threads=4");
    let (said, moved) = values(&[("PI0RTD_DEVICE_THREADS", "3")], &[]).unwrap();
    assert_eq!(said, "precision=f32 threads=3");
    assert_eq!(moved[2], "PI0RTD_DEVICE_THREADS is now PI0RTD_DEVICE_CPU_THREADS");
    let weight_cache = values(&[("PI0RTD_DEVICE_CPU_WEIGHT_CACHE", "12")], &[]).unwrap();
    assert_eq!(weight_cache.0, "precision=f32 threads=2 weight_cache=12");
    for (variables, flags, error) in [
        (
            &[("PI0RTD_DEVICE_THREADS", "3"), ("PI0RTD_DEVICE_CPU_THREADS", "4")][..],
            &[][..],
            "PI0RTD_DEVICE_CPU_THREADS is \"4\" and PI0RTD_DEVICE_THREADS is \"3\", which are the same setting: leave one of them out",
        ),
        (
            &[],
            &[("--threads", "threads", "3"), ("--cpu", "cpu_threads", "4")],
            "--threads is \"3\" and --cpu is \"4\", which are the same setting: leave one of them out",
        ),
        (
            &[("PI0RTD_DEVICE_CPU_THREADS", "many")],
            &[],
            "PI0RTD_DEVICE_CPU_THREADS: threads many: not supported by device cpu: expected a whole number from 1 to 1024",
        ),
        (
            &[("PI0RTD_DEVICE_CPU_THREAD", "1")],
            &[],
            "PI0RTD_DEVICE_CPU_THREAD: thread: not an option of device cpu, expected one of precision, threads or weight_cache",
        ),
        (
            &[("PI0RTD_DEVICE_NAME", "gpu")],
            &[],
            "PI0RTD_DEVICE_NAME: unknown variant `gpu`, expected one of DEVICES",
        ),
        (
            &[("PI0RTD_DEVICE_GPU", "1")],
            &[],
            "PI0RTD_DEVICE_GPU: unknown field `gpu`, expected one of `name`, DEVICES",
        ),
        (
            &[],
            &[("--device", "name", "ttnn")],
            "device.precision: precision: not an option of device ttnn, only of cpu and reference",
        ),
        (
            &[("PI0RTD_DEVICE_TTNN", "[\"trace=off\"]")],
            &[],
            "device.ttnn has options, and device.name is \"cpu\", expected \"ttnn\"",
        ),
    ] {
        assert_eq!(values(variables, flags).unwrap_err(), error.replace("DEVICES", &devices()));
    }
    let with = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let config = with(&Override::from_environment(variables).unwrap()).unwrap();
        config.device.chosen().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let card = ("PI0RTD_DEVICE_NAME", "ttnn");
    let list = ("PI0RTD_DEVICE_TTNN", "[\"trace=off\", \"language.weights=bfp8\"]");
    let single = [("PI0RTD_DEVICE_TTNN_TRACE", "off"), ("PI0RTD_DEVICE_TTNN_LANGUAGE_WEIGHTS", "bfp8")];
    assert_eq!(with(&[card, list]), ["language.weights=bfp8", "trace=off"]);
    assert_eq!(with(&[card, single[0], single[1]]), ["language.weights=bfp8", "trace=off"]);
}

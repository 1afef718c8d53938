//! `--device` and the devices' settings as options, built from the devices' own descriptions.

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use pi0rt::device::settings::{Setting, Takes};
use pi0rt::device::{KINDS, Kind, registry};

const HEADING: &str = "Device";

/// A chosen device with its settings.
#[derive(Clone, Debug, Default)]
pub struct DeviceChoice {
    /// The device, if given.
    pub device: Option<&'static dyn Kind>,
    /// The given settings, in the order of [`KINDS`] and of their settings.
    pub said: Vec<Said>,
}

/// One setting, as given.
#[derive(Clone, Debug)]
pub struct Said {
    /// The option that gave it, such as `--threads`.
    pub flag: String,
    /// The device whose option it is; `None` for the chosen one.
    pub kind: Option<&'static dyn Kind>,
    /// Name of the setting.
    pub name: String,
    /// Value of the setting.
    pub value: String,
}

/// The devices that share an option, each with its own setting.
type Sharing = Vec<(&'static dyn Kind, &'static Setting)>;

/// The settings that have an option, with the devices that share each, in order.
fn flags() -> Vec<(&'static str, Sharing)> {
    let mut flags: Vec<(&'static str, Sharing)> = Vec::new();
    for kind in KINDS {
        for setting in kind.settings() {
            let Some(flag) = setting.flag else { continue };
            match flags.iter_mut().find(|(known, _)| *known == flag) {
                Some((_, sharing)) => sharing.push((*kind, setting)),
                None => flags.push((flag, vec![(*kind, setting)])),
            }
        }
    }
    flags
}

fn flag_arg(flag: &'static str, sharing: &[(&'static dyn Kind, &'static Setting)]) -> Arg {
    let (_, first) = sharing[0];
    let default = match sharing {
        [(_, one)] => one.default.to_owned(),
        several => {
            let each =
                several.iter().map(|(kind, setting)| format!("{} on {}", setting.default, kind.name()));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    let arg = Arg::new(flag).long(flag).help_heading(HEADING);
    let arg = arg.help(format!("{} [default: {default}]", first.about));
    let takes: Vec<Takes> = sharing.iter().map(|(_, setting)| setting.takes).collect();
    match first.takes {
        Takes::OneOf(_) => {
            let mut words: Vec<(&str, &str)> = Vec::new();
            for takes in takes {
                let Takes::OneOf(more) = takes else { continue };
                words.extend(
                    more.iter()
                        .filter(|(word, _)| !words.iter().any(|(known, _)| known == word))
                        .collect::<Vec<_>>(),
                );
            }
            let values = words.into_iter().map(|(word, about)| PossibleValue::new(word).help(about));
            arg.value_parser(PossibleValuesParser::new(values))
        }
        of => {
            let name = match of {
                Takes::Path => "DIR",
                _ => "N",
            };
            arg.value_name(name).value_parser(move |text: &str| {
                let fits = takes.iter().any(|takes| takes.take(text).is_some());
                if fits { Ok(text.to_owned()) } else { Err(format!("expected {of}")) }
            })
        }
    }
}

impl Args for DeviceChoice {
    fn augment_args(command: Command) -> Command {
        let values = KINDS.iter().map(|kind| PossibleValue::new(kind.name()).help(kind.about()));
        let device = Arg::new("device").long("device").value_name("DEVICE").help_heading(HEADING);
        let device = device.help(format!("Device to run on [default: {}]", KINDS[0].name()));
        let command = command.arg(device.value_parser(PossibleValuesParser::new(values)));
        let command =
            flags().iter().fold(command, |command, (flag, sharing)| command.arg(flag_arg(flag, sharing)));
        KINDS.iter().filter(|kind| !kind.settings().is_empty()).fold(command, |command, kind| {
            let names: Vec<&str> = kind.settings().iter().map(|setting| setting.name).collect();
            let help = format!("Option of device {}: {}; may be repeated", kind.name(), names.join(", "));
            let arg = Arg::new(kind.name()).long(kind.name()).value_name("NAME=VALUE").help_heading(HEADING);
            command.arg(arg.action(ArgAction::Append).help(help))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DeviceChoice {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let device = matches.get_one::<String>("device").and_then(|name| registry::named(name));
        let mut said = Vec::new();
        for (flag, sharing) in flags() {
            let name = sharing[0].1.name.to_owned();
            let value = matches.get_one::<String>(flag).cloned();
            said.extend(value.map(|value| Said { flag: format!("--{flag}"), kind: None, name, value }));
        }
        for kind in KINDS.iter().filter(|kind| !kind.settings().is_empty()) {
            for line in matches.get_many::<String>(kind.name()).into_iter().flatten() {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                let (name, value, flag) = (name.to_owned(), value.to_owned(), format!("--{}", kind.name()));
                said.push(Said { flag, kind: Some(*kind), name, value });
            }
        }
        Ok(Self { device, said })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

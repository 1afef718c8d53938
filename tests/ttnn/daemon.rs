//! `pi0rtd --device ttnn` on the emulation: chunks, and a client's view of a failing card.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::daemons::*;
use pi0rt::control::Status;
use pi0rt::device::reference::ReferenceOptions;
use pi0rt::policy::{Chunk, Frame, Noise, Observation as Seen, PixelFormat, Policy, PolicyOptions};

/// Number of replays during warm-up: one to three cameras, guided and not, each recorded and replayed once.
const WARM_UP: usize = 12;

fn daemon(socket: &Path, emulation: &str, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rtd"));
    command.args(["--device", "ttnn", "--checkpoint"]).arg(checkpoint()).arg("--socket").arg(socket);
    for setting in settings {
        command.args(["--ttnn", setting]);
    }
    command.env("PI0RT_EMULATION", emulation).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ready(mut command: Command) -> Process {
    let mut process = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if !line.starts_with("pi0rtd: ready: model golden on ttnn (emulation") {
        panic!("{line}{}", rest(&mut process.0));
    }
    process
}

fn rest(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

/// The reference device's answer to [`ask`], which golden tests compare with lerobot's.
fn expected() -> Vec<f32> {
    let options = PolicyOptions { device: ReferenceOptions.into(), ..PolicyOptions::default() };
    let mut policy = Policy::load(&checkpoint(), &options).unwrap();
    let pictures: Vec<_> = (0..3).map(pixels).collect();
    let frame = |data| Some(Frame { data, width: 8, height: 6, stride: 24, format: PixelFormat::Rgb8 });
    let frames: Vec<_> = pictures.iter().map(|picture| frame(&picture[..])).collect();
    let prompt = policy.prompt("pick up the red block").unwrap();
    let mut chunk = Chunk::new(policy.info());
    let seen = Seen { frames: &frames, state: &state(), prompt: &prompt, rtc: None };
    policy.infer(&seen, Noise::Seed(11), &mut chunk).unwrap();
    chunk.actions
}

#[test]
fn a_client_gets_the_chunk_that_the_reference_computes() {
    let directory = Directory::new();
    let _daemon = ready(daemon(&directory.socket(), "board=p150", &[]));
    let mut client = open(&directory.socket());
    let got = ask(&mut client);
    assert_eq!(ask(&mut client), got, "the same observation and seed");
    let expected = expected();
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
    let error = square(&mut got.iter().zip(&expected).map(|(a, b)| a - b));
    let distance = (error / square(&mut expected.iter().copied())).sqrt();
    assert!(distance < 2e-2, "relative RMS {distance}");
}

/// Checks a card that fails in the middle of a client's second chunk.
fn fails(emulation: &str, message: &str) {
    let directory = Directory::new();
    let emulation = format!("{emulation}={}", WARM_UP + 1);
    // Longer than a real replay on a busy machine, and as short as one step makes it.
    let mut command = daemon(&directory.socket(), &emulation, &["timeout_ms=20000"]);
    command.args(["--steps", "1"]);
    let mut daemon = ready(command);
    let mut client = open(&directory.socket());
    ask(&mut client);
    let ticket = look(&mut client, 0);
    assert_eq!(client.wait(Some(ticket), LONG).unwrap().status, Status::DeviceLost as i32);
    let errors = rest(&mut daemon.0);
    let code = daemon.0.wait().unwrap().code();
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {errors}");
    assert!(errors.contains("device lost") && errors.contains(message), "{errors}");
    assert!(!directory.socket().exists(), "the socket is gone with it");
}

#[test]
fn a_card_that_fails_in_mid_chunk_is_lost_and_the_daemon_ends() {
    fails("lose_after", "device timeout, potential hang detected");
}

#[test]
fn a_card_that_hangs_in_mid_chunk_is_lost_and_the_daemon_ends() {
    fails("hang_after", "no answer within 20s");
}

#[test]
fn a_second_daemon_on_a_card_is_told_who_has_it() {
    let directory = Directory::new();
    let lock = format!("lock={}", directory.0.display());
    let settings = [&*lock, "lock_timeout_ms=0"];
    let first = ready(daemon(&directory.socket(), "", &settings));
    let second = daemon(&directory.0.join("other.sock"), "", &settings).output().unwrap();
    let errors = String::from_utf8_lossy(&second.stderr);
    let holder = format!("/dev/tenstorrent/0 is in use by process {}", first.0.id());
    assert!(!second.status.success() && errors.contains(&holder), "{errors}");
    // The card is free again, however its holder ends.
    drop(first);
    ready(daemon(&directory.0.join("third.sock"), "", &settings));
}

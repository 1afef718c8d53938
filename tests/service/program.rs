//! `pi0rtd` with a real checkpoint: started, used from C, ended.

use std::io::Read;
use std::process::Command;

use crate::daemons::*;
use pi0rt::control::{Fault, Status};
use pi0rt::policy::{Chunk, Frame, Noise, Observation, PixelFormat, Policy, PolicyOptions};
use pi0rt::shm::clock::now_ns;
use rustix::process::{Pid, Signal, kill_process};

fn signal(process: &mut Process, signal: Signal) -> i32 {
    kill_process(Pid::from_child(&process.0), signal).unwrap();
    process.0.wait().unwrap().code().expect("ended by itself, not by the signal")
}

#[test]
fn what_comes_over_shared_memory_is_what_the_policy_computes() {
    let directory = Directory::new();
    let mut daemon = started(&directory.socket());
    let got = ask(&mut open(&directory.socket()));
    assert_eq!(signal(&mut daemon, Signal::TERM), 0);

    let device = pi0rt::device::Choice::from(pi0rt::device::cpu::CpuOptions {
        precision: pi0rt::device::cpu::Precision::F32,
        threads: Some(1),
        ..Default::default()
    });
    let options = PolicyOptions { device, ..PolicyOptions::default() };
    let mut policy = Policy::load(&checkpoint(), &options).unwrap();
    let pictures: Vec<_> = (0..3).map(pixels).collect();
    let frame = |data: &'static [u8]| {
        Some(Frame { data, width: 8, height: 6, stride: 24, format: PixelFormat::Rgb8 })
    };
    let frames: Vec<_> = pictures.into_iter().map(|picture| frame(picture.leak())).collect();
    let prompt = policy.prompt("pick up the red block").unwrap();
    let mut chunk = Chunk::new(policy.info());
    let observation = Observation { frames: &frames, state: &state(), prompt: &prompt, rtc: None };
    policy.infer(&observation, Noise::Seed(11), &mut chunk).unwrap();
    assert_eq!(got, chunk.actions);
}

#[test]
fn either_signal_ends_it_after_the_answer_and_nothing_is_left() {
    for stop in [Signal::TERM, Signal::INT] {
        let directory = Directory::new();
        let mut daemon = started(&directory.socket());
        let mut client = open(&directory.socket());
        ask(&mut client);
        let ticket = look(&mut client, 0);
        assert_eq!(signal(&mut daemon, stop), 0);
        // Computed if its turn had come, else answered with the daemon's end.
        let status = client.wait(Some(ticket), LONG).unwrap().status;
        assert!(status == 0 || status == Status::Gone as i32, "{status}");
        assert_eq!(std::fs::read_dir(&directory.0).unwrap().count(), 0);
    }
}

#[test]
fn a_second_daemon_and_a_missing_checkpoint_are_refused() {
    let directory = Directory::new();
    let socket = directory.socket();
    let daemon = started(&socket);
    let second = pi0rtd(&socket).output().unwrap();
    assert!(!second.status.success());
    let expected =
        format!("pi0rtd: socket {}: another daemon serves it, process {}\n", socket.display(), daemon.0.id());
    assert_eq!(String::from_utf8_lossy(&second.stderr), expected);
    ask(&mut open(&socket));

    let other = directory.0.join("other.sock");
    let missing = directory.0.join("none");
    let output = Command::new(env!("CARGO_BIN_EXE_pi0rtd"))
        .arg("--checkpoint")
        .arg(&missing)
        .arg("--socket")
        .arg(&other)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains(missing.to_str().unwrap()), "{words}");
    let left: Vec<_> = std::fs::read_dir(&directory.0).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!left.iter().any(|path| path.starts_with(&other)), "{left:?}");
}

/// By the exit status: the unit does not restart the daemon after it.
#[test]
fn a_wrong_configuration_is_told_from_other_failures() {
    let directory = Directory::new();
    let file = directory.0.join("pi0rtd.toml");
    std::fs::write(&file, "[clients]\nmax_clients = 0\n").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pi0rtd"));
        command.args(arguments).arg("--socket").arg(directory.socket()).output().unwrap()
    };
    let file = file.to_str().unwrap();
    let output = run(&["--config", file]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with(&format!("pi0rtd: {file}:2:15: ")), "{said}");
    assert_eq!(run(&["--check-config", "--config", file]).status.code(), Some(78));
    // A checkpoint with an unknown field will have it next time too; a missing one may be there by then.
    let strange = changed(&directory.0, ",\n    \"wobble\": 0.25");
    let output = run(&["--checkpoint", strange.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("config.json") && said.contains("wobble 0.25 is not supported"), "{said}");
    assert_eq!(run(&["--checkpoint", "/nonexistent"]).status.code(), Some(1));
}

#[test]
fn what_a_real_policy_can_not_use_is_answered() {
    let directory = Directory::new();
    let mut daemon = ready(serving(&unrated(&directory.0), &directory.socket()));
    let mut client = open(&directory.socket());
    let error = client.set_prompt(&"pick up the red block ".repeat(40)).err();
    // The checkpoint may also be declared to truncate.
    assert!(error.is_none_or(|error| error.status() == Status::BadPrompt));
    assert_eq!(client.set_prompt(" \n").unwrap_err().status(), Status::BadPrompt);
    client.set_prompt("pick up the red block").unwrap();
    // No camera has a frame, tick after tick.
    for _ in 0..20 {
        let slot = client.acquire().unwrap();
        for (i, value) in state().iter().enumerate() {
            // SAFETY: the slot was acquired; the state has 14 values.
            unsafe { client.state(slot).unwrap().add(i).write(*value) };
        }
        let ticket = client.submit(&pi0rt::client::Observation { slot, ..Default::default() }).unwrap();
        let completion = client.wait(Some(ticket), LONG).unwrap();
        assert_eq!(completion.status, Status::BadObservation as i32);
        assert_eq!(Fault::from_word(completion.detail), Some(Fault::MissingCamera { camera: Some(0) }));
    }
    // No limits are declared; but the value is implausible for a joint.
    let slot = client.acquire().unwrap();
    let observation = seen(&client, slot, 0);
    // SAFETY: as above.
    unsafe { client.state(slot).unwrap().add(3).write(1e30) };
    let ticket = client.submit(&observation).unwrap();
    let completion = client.wait(Some(ticket), LONG).unwrap();
    assert_eq!(Fault::from_word(completion.detail), Some(Fault::OutOfLimits { index: 3, value: 1e30 }));
    ask(&mut client);
    // The checkpoint declares no rate, and none is assumed.
    let mut action = [0.0; 14];
    let error = client.action_at(now_ns(), &mut action).unwrap_err();
    assert_eq!(error.status(), Status::NoRate);
    drop(client);
    assert_eq!(signal(&mut daemon, Signal::TERM), 0);
    let mut log = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    let complaints: Vec<_> = log.lines().filter(|line| line.contains("bad observation: ")).collect();
    assert_eq!(complaints.len(), 3, "{log}");
    assert!(
        complaints[0].contains("WARN") && complaints[0].contains("camera base_0_rgb has no frame"),
        "{log}"
    );
}

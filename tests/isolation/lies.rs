//! A lying daemon, seen through the C interface: every address and index a program is given is valid.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr::null_mut;

use pi0rt::capi::*;
use pi0rt::control::{Dimension, Fault, Limits, PolicyDescription, Welcome};
use pi0rt::shm::{ChunkHeader, Completion};

use crate::c_interface::{last_error, sized};
use crate::puppet::{Puppet, welcome};

fn open(socket: &Path) -> Result<*mut pi0rt_client, (Status, String)> {
    let socket = CString::new(socket.to_str().unwrap()).unwrap();
    let mut client = null_mut();
    let options = pi0rt_client_options { socket_path: socket.as_ptr(), ..sized() };
    // SAFETY: a struct with its size, with a valid string; a writable pointer.
    match unsafe { pi0rt_client_open(&options, &mut client) } {
        Status::Ok => Ok(client),
        status => Err((status, last_error())),
    }
}

/// With a contract and without one.
#[test]
fn what_does_not_fit_the_segments_is_no_policy() {
    type Lie = fn(&mut PolicyDescription);
    let bad = |limits| vec![Dimension { name: "waist".into(), limits, ..Dimension::default() }; 3];
    let lies: [(Lie, &str); 12] = [
        (|policy| policy.state_dim = 1 << 20, "state dimension is 0x100000, expected the layout's"),
        (|policy| policy.state_dim = 2, "state dimension is 0x2, expected the layout's"),
        (|policy| policy.action_dim = 3, "action dimension is 0x3, expected the layout's"),
        (|policy| policy.action_dim = 0, "action dimension is 0x0, expected the layout's"),
        (|policy| policy.horizon = 5, "horizon is 0x5, expected the layout's"),
        (|policy| policy.horizon = u32::MAX, "horizon is 0xffffffff, expected the layout's"),
        (|policy| policy.cameras.truncate(1), "number of cameras is 0x1, expected the layout's"),
        (|policy| policy.cameras.push("third".into()), "number of cameras is 0x3, expected the layout's"),
        (
            |policy| {
                policy.state_dim = 4096;
                policy.state = vec![Dimension { gripper: true, ..Dimension::default() }; 4096];
            },
            "",
        ),
        (|policy| policy.execution_horizon = 5, "execution horizon is 0x5, expected the horizon at most"),
        (
            |policy| policy.state[1].limits.position = Some([1.0, 0.5]),
            "limits of waist: unknown, unknown unit, 1.0 to 0.5 can't be kept",
        ),
        (
            |policy| policy.state[2].limits.velocity = Some(-1.0),
            "limits of waist: unknown, unknown unit, -1.0 to 1.0, up to -1.0 per s can't be kept",
        ),
    ];
    for (lie, words) in lies {
        let mut welcome = welcome();
        if words.contains("limits") {
            welcome.policy.state = bad(Limits { position: Some([-1.0, 1.0]), ..Limits::default() });
        }
        lie(&mut welcome.policy);
        let puppet = Puppet::new(welcome);
        let (status, said) = open(&puppet.socket()).unwrap_err();
        // A text longer than any message can't be sent at all.
        assert!(status == Status::Protocol || words.is_empty(), "{words}: {said}");
        assert!(said.contains(words), "{said}");
    }
}

/// C programs write floats and pass frames to drivers.
#[test]
fn parts_that_are_not_aligned_are_refused() {
    type Lie = fn(&mut Welcome);
    let lies: [Lie; 4] = [
        |welcome| welcome.layout.slot.len -= 4,
        |welcome| welcome.layout.slot.len -= 8,
        |welcome| welcome.layout.frame.offset -= 8,
        |welcome| welcome.layout.state.offset += 4,
    ];
    for lie in lies {
        let mut welcome = welcome();
        lie(&mut welcome);
        let puppet = Puppet::new(welcome);
        assert_eq!(open(&puppet.socket()).unwrap_err().0, Status::Protocol);
    }
}

#[test]
fn all_that_a_program_is_told_is_there() {
    let mut welcome = welcome();
    welcome.policy.optional_cameras = u32::MAX;
    welcome.policy.cameras[1] = "ü".repeat(100);
    welcome.policy.model = "m".repeat(1000);
    let geometry = welcome.layout.geometry;
    let puppet = Puppet::new(welcome);
    let client = open(&puppet.socket()).unwrap();
    let mut strings = puppet.next();
    // SAFETY: structs with their sizes; buffers have the sizes that the library reports.
    unsafe {
        let mut info: pi0rt_policy_info = sized();
        assert_eq!(pi0rt_client_describe(client, &mut info), Status::Ok);
        assert_eq!((info.cameras, info.state_dim, info.optional_cameras), (2, 3, 0b11));
        assert_eq!((info.horizon, info.action_dim, info.frame_bytes), (4, 2, 64));
        assert_eq!(CStr::from_ptr(info.camera_names[1].as_ptr()).to_bytes().len(), 62);
        assert_eq!(CStr::from_ptr(info.model.as_ptr()).to_bytes().len(), 63);
        let (about_camera, about_state) = (
            [
                |camera| Fault::MissingCamera { camera: Some(camera) },
                |camera| Fault::FrameFormat { camera, format: 9 },
                |camera| Fault::FrameSize { camera },
                |camera| Fault::OldFrame { camera },
                |camera| Fault::Future { camera: Some(camera), ms: 1 },
                |camera| Fault::TooOld { camera: Some(camera), ms: 1 },
                |camera| Fault::Age { camera: Some(camera), ms: 1 },
            ] as [fn(u16) -> Fault; 7],
            [
                |index| Fault::OldState { index },
                |index| Fault::NotFinite { index, value: 0.0 },
                |index| Fault::OutOfLimits { index, value: 0.0 },
            ] as [fn(u16) -> Fault; 3],
        );
        let answer = |strings: &mut crate::puppet::Strings, fault: Fault| {
            let mut observation: pi0rt_observation = sized();
            assert_eq!(pi0rt_observation_acquire(client, &mut observation), Status::Ok);
            assert_eq!((observation.cameras, observation.state_dim), (2, 3));
            assert!(observation.frames[2].data.is_null() && observation.frames[3].capacity == 0);
            observation.state.write_bytes(0, observation.state_dim);
            let mut ticket = 0;
            assert_eq!(pi0rt_submit(client, &observation, &mut ticket), Status::Ok);
            strings.take(ticket);
            let slot = observation.slot;
            let status = Status::BadObservation as i32;
            strings.complete(Completion {
                ticket,
                status,
                slot,
                detail: fault.to_word(),
                ..Default::default()
            });
            let mut completion: pi0rt_completion = sized();
            assert_eq!(pi0rt_poll(client, &mut completion), Status::Ok);
            (completion.reason, completion.index)
        };
        for (faults, count) in [(&about_camera[..], 2u16), (&about_state, 3)] {
            for fault in faults {
                let last = fault(count - 1);
                assert_eq!(answer(&mut strings, last), (Some(last).into(), i32::from(count) - 1));
                for index in [count, 4096, u16::MAX - 1] {
                    let told = answer(&mut strings, fault(index));
                    assert_eq!(told, (pi0rt_completion_reason::Other, -1), "{:?}", fault(index));
                }
            }
        }
        // "No camera" can't have a frame of a wrong size; none may be there at all.
        let none = answer(&mut strings, Fault::FrameSize { camera: u16::MAX });
        assert_eq!(none, (pi0rt_completion_reason::Other, -1));
        let none = answer(&mut strings, Fault::MissingCamera { camera: None });
        assert_eq!(none, (pi0rt_completion_reason::MissingCamera, -1));
        let none = answer(&mut strings, Fault::Age { camera: None, ms: 1 });
        assert_eq!(none, (pi0rt_completion_reason::Age, -1));

        let header = ChunkHeader { observed_ns: pi0rt_now_ns(), ..ChunkHeader::default() };
        for (horizon, action_dim) in [(5, 2), (4, 3), (2, 4), (u32::MAX, u32::MAX)] {
            strings.publish(ChunkHeader { horizon, action_dim, ..header });
            let mut chunk: pi0rt_chunk = sized();
            assert_eq!(pi0rt_chunk_latest(client, &mut chunk), Status::Protocol);
            assert!(chunk.actions.is_null() && chunk.horizon == 0);
        }
        strings.publish(ChunkHeader { horizon: geometry.horizon, action_dim: geometry.action_dim, ..header });
        let mut chunk: pi0rt_chunk = sized();
        assert_eq!(pi0rt_chunk_latest(client, &mut chunk), Status::Ok);
        let actions = std::slice::from_raw_parts(chunk.actions, (chunk.horizon * chunk.action_dim) as usize);
        assert_eq!(actions, [0.5; 8]);
        assert_eq!(pi0rt_client_close(client), Status::Ok);
    }
}

//! Neither the client's fast path nor the daemon's side of it allocates.

use crate::counting;
use crate::daemons::*;
use pi0rt::client::ClientError;
use pi0rt::daemon::{Options, Wake};

#[test]
fn submit_poll_and_action_do_not_allocate_on_either_side() {
    counting::in_own_process("ipc::submit_poll_and_action_do_not_allocate_on_either_side", both_sides);
}

fn both_sides() {
    for wake in [Wake::Sleep, Wake::Hybrid(20_000)] {
        let served = serve_with(Options { wake, ..Options::default() });
        let mut client = served.open();
        let prompt = client.set_prompt("stack the cups").unwrap();
        let mut action = [0.0; ACTION_DIM];
        let mut round = |n: u32| {
            let ticket = submit(&mut client, prompt, [n as f32; 3], Some(n as u8));
            loop {
                match client.poll() {
                    Ok(completion) => {
                        assert_eq!((completion.ticket, completion.status), (ticket, 0));
                        break;
                    }
                    Err(ClientError::Empty) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
            let (info, life) = client.action_at(pi0rt::shm::clock::now_ns(), &mut action).unwrap();
            life.unwrap();
            assert!(info.chunk > 0);
        };
        (0..100).for_each(&mut round);
        let before = counting::allocations();
        (0..5000).for_each(&mut round);
        assert_eq!(counting::allocations() - before, 0);
    }
}

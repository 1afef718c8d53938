use loom::thread;

use super::check;
use crate::shm::liveness::LIVENESS_WORDS;
use crate::shm::{Beat, Heart, Life, Pulse, Words};

const BOUND_NS: u64 = 1 << 62;
/// When a beat at 0 is older than the bound, and a beat by the clock is not.
const NOW_NS: u64 = BOUND_NS + 1;

#[test]
fn a_new_life_is_never_taken_for_the_old_one() {
    check(|| {
        let (words, peer) = Words::private(LIVENESS_WORDS);
        let next = words.alias();
        let beat = Beat::new(words.alias());
        let _old = Heart::new(words, 7);
        let pulse = Pulse::new(peer, BOUND_NS);
        beat.beat(0);
        let daemon = thread::spawn(move || Heart::new(next, 8));
        let life = pulse.feel(NOW_NS);
        assert!(matches!(life, Life::Gone | Life::Restarted), "{life:?}");
        let new = daemon.join().unwrap();
        assert_eq!(pulse.feel(NOW_NS), Life::Restarted);
        new.stop();
        assert_eq!(pulse.feel(NOW_NS), Life::Gone);
    });
}

use loom::thread;

use super::check;
use crate::shm::liveness::LIVENESS_WORDS;
use crate::shm::{Heartbeat, Liveness, LivenessReader, LivenessWriter, Words};

const BOUND_NS: u64 = 1 << 62;
/// When a beat at 0 is older than the bound, and a beat by the clock is not.
const NOW_NS: u64 = BOUND_NS + 1;

#[test]
fn a_new_life_is_never_taken_for_the_old_one() {
    check(|| {
        let (words, peer) = Words::private(LIVENESS_WORDS);
        let next = words.alias();
        let beat = Heartbeat::new(words.alias());
        let _old = LivenessWriter::new(words, 7);
        let liveness = LivenessReader::new(peer, BOUND_NS);
        beat.beat(0);
        let daemon = thread::spawn(move || LivenessWriter::new(next, 8));
        let life = liveness.check(NOW_NS);
        assert!(matches!(life, Liveness::Gone | Liveness::Restarted), "{life:?}");
        let new = daemon.join().unwrap();
        assert_eq!(liveness.check(NOW_NS), Liveness::Restarted);
        new.stop();
        assert_eq!(liveness.check(NOW_NS), Liveness::Gone);
    });
}

use loom::thread;

use super::{Fuse, check};
use crate::shm::latest::total_words;
use crate::shm::{ChunkHeader, LatestReader, LatestWriter, ReadError, Words};

const VALUES: usize = 1;
/// Stores of one publication: sequence, head, actions, sequence, number.
const PUBLISH: usize = 1 + 7 + VALUES.div_ceil(2) + 1 + 1;

fn chunks(writer: &Fuse) -> (LatestWriter, LatestReader) {
    let (latest, peer_latest) = Words::private(1);
    let (slots, peer_slots) = Words::private(total_words(VALUES));
    let writer = LatestWriter::new(latest.mortal(writer), slots.mortal(writer), VALUES);
    (writer, LatestReader::new(peer_latest, peer_slots, 1, VALUES as u32))
}

fn publish(writer: &mut LatestWriter, n: u64) {
    let header =
        ChunkHeader { ticket: n + 10, observed_ns: n, horizon: 1, action_dim: 1, ..Default::default() };
    assert_eq!(writer.publish(header, &[n as f32; VALUES]), Some(n));
}

/// The number of the chunk that is read, which has to be whole.
fn read(reader: &LatestReader) -> Result<u64, ReadError> {
    let mut actions = [0.0; VALUES];
    let got = reader.read(&mut actions)?;
    assert_eq!((got.ticket, got.observed_ns), (got.chunk + 10, got.chunk));
    assert_eq!((got.horizon, got.action_dim), (1, 1));
    assert_eq!(actions, [got.chunk as f32; VALUES]);
    Ok(got.chunk)
}

/// Four publications: the fourth goes where a reader may still be at the first.
#[test]
fn chunks_are_read_whole_and_never_an_older_one_again() {
    check(|| {
        let (mut writer, reader) = chunks(&Fuse::new(usize::MAX));
        publish(&mut writer, 1);
        let thread = thread::spawn(move || (2..=4).for_each(|n| publish(&mut writer, n)));
        let first = read(&reader).unwrap();
        let second = read(&reader).unwrap();
        assert!(second >= first, "chunk {second} after chunk {first}");
        thread.join().unwrap();
        assert_eq!(read(&reader), Ok(4));
    });
}

#[test]
fn a_writer_that_stops_after_any_store_leaves_a_whole_chunk() {
    for stores in 0..=3 * PUBLISH {
        check(move || {
            let fuse = Fuse::new(PUBLISH + stores);
            let (mut writer, reader) = chunks(&fuse);
            publish(&mut writer, 1);
            let thread = thread::spawn(move || (2..=4).for_each(|n| publish(&mut writer, n)));
            let first = read(&reader).unwrap();
            thread.join().unwrap();
            let last = read(&reader).unwrap();
            assert_eq!(last, 1 + (stores / PUBLISH) as u64);
            assert!(last >= first);
            assert!(fuse.has_blown());
        });
    }
}

#[test]
fn a_chunk_that_is_not_finite_is_never_seen() {
    check(|| {
        let (mut writer, reader) = chunks(&Fuse::new(usize::MAX));
        (1..=2).for_each(|n| publish(&mut writer, n));
        let thread = thread::spawn(move || {
            assert_eq!(writer.publish(ChunkHeader::default(), &[f32::NAN; VALUES]), None);
            publish(&mut writer, 3);
        });
        assert!(matches!(read(&reader), Ok(2 | 3)));
        thread.join().unwrap();
        assert_eq!(read(&reader), Ok(3));
    });
}

#[test]
fn what_was_cleared_is_shown_no_more() {
    check(|| {
        let (mut writer, reader) = chunks(&Fuse::new(usize::MAX));
        publish(&mut writer, 1);
        let thread = thread::spawn(move || {
            writer.clear();
            publish(&mut writer, 2);
        });
        match read(&reader) {
            Ok(1 | 2) | Err(ReadError::Empty) => {}
            other => panic!("{other:?}"),
        }
        thread.join().unwrap();
        assert_eq!(read(&reader), Ok(2));
    });
}

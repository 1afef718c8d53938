use loom::thread;

use super::check;
use crate::shm::playback::PLAYBACK_WORDS;
use crate::shm::{PlaybackReader, PlaybackWriter, Words};

/// The daemon counts the first row of the chunk whose rows it sees.
#[test]
fn the_first_row_is_seen_no_later_than_the_rows() {
    check(|| {
        let (words, peer) = Words::private(PLAYBACK_WORDS);
        let (writer, reader) = (PlaybackWriter::new(words), PlaybackReader::new(peer));
        let thread = thread::spawn(move || {
            for chunk in 1..=2 {
                writer.begin(chunk, 10 * chunk as u32);
                writer.advance(chunk, 10 * chunk as u32 + 2);
            }
        });
        let read = reader.read();
        assert!(read.first_of >= read.chunk, "{read:?}");
        assert!(read.first_of == 0 || read.first_row == 10 * read.first_of, "{read:?}");
        thread.join().unwrap();
    });
}

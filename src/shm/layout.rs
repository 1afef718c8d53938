//! Positions of everything in a session's three segments. The daemon plans the layout, the handshake carries
//! it.

use std::sync::Arc;

use super::chunk_notes::NOTE_WORDS;
use super::entry::{ENTRY_WORDS, MAX_CAMERAS};
use super::geometry::{Geometry, LayoutError};
use super::latest::{SLOTS, total_words};
use super::liveness::LIVENESS_WORDS;
use super::playback::PLAYBACK_WORDS;
use super::stats::{COUNTS, STATS_WORDS};
use super::{Segment, Words};

/// Distance between two words, bytes, that keeps them from sharing a cache line or the neighbour that is
/// prefetched with it.
const APART: usize = 128;
const PAGE: usize = 4096;
/// Length of the in-flight journal, bytes: the first half of the last page of the results.
const JOURNAL: usize = PAGE / 2;

/// A range of bytes within a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// Bytes from the start of the segment; a multiple of 8.
    pub offset: u32,
    /// Length in bytes.
    pub len: u32,
}

/// Layout of a session's segments. Offsets count from the start of the named segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentLayout {
    /// The sizes it was planned for.
    pub geometry: Geometry,
    /// Length of the control segment, bytes.
    pub control_bytes: u32,
    /// Length of the observation segment, bytes.
    pub observation_bytes: u32,
    /// Length of the results segment, bytes.
    pub results_bytes: u32,
    /// Control: number of completions the client has taken.
    pub completion_head: Region,
    /// Control: 1 while the client wants an event for each completion.
    pub want_event: Region,
    /// Control: entries of the submission ring.
    pub submissions: Region,
    /// Results: epoch, state and heartbeat.
    pub liveness: Region,
    /// Results: 1 while the daemon sleeps.
    pub need_wakeup: Region,
    /// Results: number of submissions the daemon has taken.
    pub submission_head: Region,
    /// Results: counters and histograms.
    pub stats: Region,
    /// Results: entries of the completion ring.
    pub completions: Region,
    /// Results: number of the latest chunk.
    pub latest: Region,
    /// Results: the three chunk slots.
    pub chunks: Region,
    /// Observation: the first slot. Its head, two words per camera, comes first.
    pub slot: Region,
    /// Within a slot: the state, f32 values.
    pub state: Region,
    /// Within a slot: the first camera's frame; the others follow at multiples of `frame.len`.
    pub frame: Region,
    /// Within a slot: when each camera's frame was taken, one word each. Empty: this daemon reads none.
    pub frame_times: Region,
    /// Results: the notes of the three chunk slots. Empty: this daemon writes none.
    pub chunk_notes: Region,
    /// Control: what the client has played. Empty: this daemon reads none.
    pub playback: Region,
}

struct Planner {
    end: usize,
}

impl Planner {
    fn place(&mut self, bytes: usize, align: usize) -> Region {
        let offset = self.end.next_multiple_of(align);
        self.end = offset + bytes;
        Region { offset: offset as u32, len: bytes as u32 }
    }

    fn total(&self) -> u32 {
        self.end.next_multiple_of(PAGE) as u32
    }
}

impl SegmentLayout {
    /// Plans the layout of all regions for a geometry.
    ///
    /// # Errors
    /// A size of the geometry that is out of bounds.
    pub fn plan(geometry: Geometry) -> Result<SegmentLayout, LayoutError> {
        geometry.check()?;
        let ring = geometry.entries as usize * ENTRY_WORDS * 8;
        let mut control = Planner { end: 0 };
        let completion_head = control.place(8, APART);
        let want_event = control.place(8, APART);
        let submissions = control.place(ring, APART);
        // After everything the first version has: a daemon of another version that resumes the session finds
        // the rest in its place, and segments of the same length.
        let playback = control.place(PLAYBACK_WORDS * 8, APART);

        let mut results = Planner { end: 0 };
        let liveness = results.place(LIVENESS_WORDS * 8, APART);
        let need_wakeup = results.place(8, APART);
        let submission_head = results.place(8, APART);
        let stats = results.place(STATS_WORDS * 8, APART);
        let completions = results.place(ring, APART);
        let latest = results.place(8, APART);
        let chunks = results.place(total_words(geometry.values()) * 8, APART);
        // For the daemon alone: see `journal`.
        results.place(JOURNAL, PAGE);
        // In the rest of the journal's page, for the same reason as `playback`.
        let chunk_notes = results.place(SLOTS * NOTE_WORDS * 8, APART);

        let mut slot = Planner { end: MAX_CAMERAS * 16 };
        let state = slot.place(geometry.state_dim as usize * 4, 64);
        // After everything the first version has, as `playback`.
        let frame_times = slot.place(MAX_CAMERAS * 8, 64);
        let mut frame = Region { offset: slot.total(), len: 0 };
        if geometry.cameras > 0 {
            // Frames start at pages of their own, so that drivers can be given them.
            frame.len = (geometry.frame_bytes as usize).next_multiple_of(PAGE) as u32;
            slot.end = frame.offset as usize + frame.len as usize * geometry.cameras as usize;
        }
        let slot_bytes = slot.total();
        Ok(SegmentLayout {
            geometry,
            control_bytes: control.total(),
            observation_bytes: slot_bytes * geometry.slots,
            results_bytes: results.total(),
            completion_head,
            want_event,
            submissions,
            liveness,
            need_wakeup,
            submission_head,
            stats,
            completions,
            latest,
            chunks,
            slot: Region { offset: 0, len: slot_bytes },
            state,
            frame,
            frame_times,
            chunk_notes,
            playback,
        })
    }

    /// Checks a layout that came in a message: every region within its segment and large enough.
    ///
    /// # Errors
    /// The first region that isn't.
    pub fn check(&self) -> Result<(), LayoutError> {
        self.geometry.check()?;
        let g = &self.geometry;
        let ring = u64::from(g.entries) * ENTRY_WORDS as u64 * 8;
        let (control, results) = (self.control_bytes, self.results_bytes);
        let parts = [
            ("completion head", self.completion_head, 8, control),
            ("event flag", self.want_event, 8, control),
            ("submission ring", self.submissions, ring, control),
            ("liveness", self.liveness, LIVENESS_WORDS as u64 * 8, results),
            ("wake-up flag", self.need_wakeup, 8, results),
            ("submission head", self.submission_head, 8, results),
            ("statistics", self.stats, COUNTS as u64 * 8, results),
            ("completion ring", self.completions, ring, results),
            ("latest chunk's number", self.latest, 8, results),
            ("chunk slots", self.chunks, total_words(g.values()) as u64 * 8, results),
            ("state", self.state, u64::from(g.state_dim) * 4, self.slot.len),
        ];
        for (what, region, expected, segment) in parts {
            check(what, region, expected, segment)?;
        }
        let slots = u64::from(self.slot.len) * u64::from(g.slots);
        check(
            "observation slots",
            Region { len: slots.try_into().unwrap_or(0), ..self.slot },
            slots,
            self.observation_bytes,
        )?;
        align("distance of observation slots", self.slot.len, 8)?;
        if g.cameras > 0 {
            let frames = [
                ("offset of the observation slots", self.slot.offset),
                ("distance of observation slots", self.slot.len),
                ("offset of frames", self.frame.offset),
                ("distance of frames", self.frame.len),
            ];
            for (what, got) in frames {
                align(what, got, PAGE as u32)?;
            }
            check("frame", self.frame, g.frame_bytes.into(), self.slot.len)?;
            let frames = u64::from(self.frame.len) * u64::from(g.cameras);
            check(
                "frames",
                Region { len: frames.try_into().unwrap_or(0), ..self.frame },
                frames,
                self.slot.len,
            )?;
        }
        if self.frame_times.len > 0 {
            check("times of the frames", self.frame_times, u64::from(g.cameras) * 8, self.slot.len)?;
        }
        if self.chunk_notes.len > 0 {
            let bytes = (SLOTS * NOTE_WORDS) as u64 * 8;
            check("notes on chunks", self.chunk_notes, bytes, results)?;
        }
        if self.playback.len > 0 {
            check("playback", self.playback, PLAYBACK_WORDS as u64 * 8, control)?;
        }
        check(
            "camera heads",
            Region { offset: 0, len: g.cameras * 16 },
            u64::from(g.cameras) * 16,
            self.slot.len,
        )
    }

    /// The region of the in-flight journal, in the last page of the results. Not part of the protocol.
    pub fn journal(&self) -> Region {
        Region { offset: self.results_bytes - PAGE as u32, len: JOURNAL as u32 }
    }

    /// Length of the three segments together, bytes.
    pub fn bytes(&self) -> u64 {
        [self.control_bytes, self.observation_bytes, self.results_bytes].into_iter().map(u64::from).sum()
    }

    /// The words of a region; None if it lies outside the segment, which a planned or checked layout rules out.
    pub fn words(segment: &Arc<Segment>, region: Region) -> Option<Words> {
        Words::new(segment, region.offset as usize, region.len as usize / 8)
    }
}

fn align(what: &'static str, got: u32, of: u32) -> Result<(), LayoutError> {
    if got.is_multiple_of(of) { Ok(()) } else { Err(LayoutError::Align { what, got, of }) }
}

fn check(what: &'static str, region: Region, expected: u64, segment: u32) -> Result<(), LayoutError> {
    let Region { offset, len } = region;
    let end = u64::from(offset) + u64::from(len);
    if offset % 8 != 0 || u64::from(len) < expected || end > segment.into() {
        return Err(LayoutError::Region { what, offset, len, expected, segment });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        cameras: 3,
        frame_bytes: 640 * 480 * 3,
        state_dim: 14,
        horizon: 50,
        action_dim: 14,
        slots: 4,
        entries: 64,
    };

    #[test]
    fn a_plan_passes_its_own_check() {
        SegmentLayout::plan(GEOMETRY).unwrap().check().unwrap();
        SegmentLayout::plan(Geometry { cameras: 0, ..GEOMETRY }).unwrap().check().unwrap();
    }

    #[test]
    fn what_reaches_beyond_its_segment_is_named() {
        let mut layout = SegmentLayout::plan(GEOMETRY).unwrap();
        layout.completions.offset = layout.results_bytes;
        let message = layout.check().unwrap_err().to_string();
        assert!(message.starts_with("completion ring at "), "{message}");
        let mut layout = SegmentLayout::plan(GEOMETRY).unwrap();
        layout.slot.len += 8;
        layout.observation_bytes += 4096;
        let message = layout.check().unwrap_err().to_string();
        assert_eq!(
            message,
            format!("distance of observation slots is {}, expected a multiple of 4096", layout.slot.len)
        );
        layout.frame.offset += 8;
        layout.slot.len += 4088;
        layout.observation_bytes += 4 * 4096;
        let message = layout.check().unwrap_err().to_string();
        assert_eq!(
            message,
            format!("offset of frames is {}, expected a multiple of 4096", layout.frame.offset)
        );
        let message = SegmentLayout::plan(Geometry { cameras: 5, ..GEOMETRY }).unwrap_err().to_string();
        assert_eq!(message, "number of cameras is 5, expected 0 to 4");
        assert!(SegmentLayout::plan(Geometry { entries: 48, ..GEOMETRY }).is_err());
    }

    #[test]
    fn numbers_are_taken_up_to_their_bounds() {
        type Number = fn(&mut Geometry) -> &mut u32;
        let numbers: [(Number, u32, u32); 7] = [
            (|geometry| &mut geometry.cameras, 0, 4),
            (|geometry| &mut geometry.frame_bytes, 1, 64 << 20),
            (|geometry| &mut geometry.state_dim, 1, 4096),
            (|geometry| &mut geometry.horizon, 1, 4096),
            (|geometry| &mut geometry.action_dim, 1, 4096),
            (|geometry| &mut geometry.slots, 2, 64),
            (|geometry| &mut geometry.entries, 2, 4096),
        ];
        for (number, min, max) in numbers {
            for (value, fits) in [(min.wrapping_sub(1), false), (min, true), (max, true), (max + 1, false)] {
                let mut geometry = Geometry { cameras: 1, frame_bytes: 4096, ..GEOMETRY };
                *number(&mut geometry) = value;
                assert_eq!(geometry.check().is_ok(), fits, "{geometry:?}");
            }
        }
        // Half a GiB of observations together.
        let most = (1 << 29) / 2 / 64 - 4096;
        let geometry = Geometry { cameras: 2, slots: 64, frame_bytes: most, ..GEOMETRY };
        assert!(geometry.check().is_ok());
        let message = Geometry { frame_bytes: most + 1, ..geometry }.check().unwrap_err().to_string();
        let expected = "size of the observation segment in bytes is 536871040, expected 0 to 536870912";
        assert_eq!(message, expected);
    }

    #[test]
    fn parts_may_fill_their_segments_and_not_be_shorter_than_what_is_in_them() {
        type Part = fn(&mut SegmentLayout) -> &mut Region;
        let plan = SegmentLayout::plan(GEOMETRY).unwrap();
        let (control, results, slot) = (plan.control_bytes, plan.results_bytes, plan.slot.len);
        let parts: [(&str, Part, u32); 14] = [
            ("completion head", |layout| &mut layout.completion_head, control),
            ("event flag", |layout| &mut layout.want_event, control),
            ("submission ring", |layout| &mut layout.submissions, control),
            ("liveness", |layout| &mut layout.liveness, results),
            ("wake-up flag", |layout| &mut layout.need_wakeup, results),
            ("submission head", |layout| &mut layout.submission_head, results),
            ("statistics", |layout| &mut layout.stats, results),
            ("completion ring", |layout| &mut layout.completions, results),
            ("latest chunk's number", |layout| &mut layout.latest, results),
            ("chunk slots", |layout| &mut layout.chunks, results),
            ("state", |layout| &mut layout.state, slot),
            ("times of the frames", |layout| &mut layout.frame_times, slot),
            ("notes on chunks", |layout| &mut layout.chunk_notes, results),
            ("playback", |layout| &mut layout.playback, control),
        ];
        let refused = |what: &str, layout: SegmentLayout| {
            let message = layout.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("{what} at ")), "{what}: {message}");
        };
        for (what, part, segment) in parts {
            let changed = |change: &dyn Fn(&mut Region)| {
                let mut layout = plan;
                if what == "times of the frames" {
                    // The plan has one for every camera there can be.
                    layout.frame_times.len = 3 * 8;
                } else if what == "statistics" {
                    // And room for counters to come.
                    layout.stats.len = COUNTS as u32 * 8;
                }
                change(part(&mut layout));
                layout
            };
            changed(&|region| region.offset = segment - region.len).check().unwrap();
            refused(what, changed(&|region| region.offset = segment - region.len + 8));
            refused(what, changed(&|region| region.len -= 8));
            refused(what, changed(&|region| region.offset += 4));
        }
        refused(
            "frame",
            SegmentLayout { frame: Region { len: plan.frame.len - 4096, ..plan.frame }, ..plan },
        );
        refused("frames", SegmentLayout { slot: Region { len: slot - 4096, ..plan.slot }, ..plan });
        refused(
            "observation slots",
            SegmentLayout { observation_bytes: plan.observation_bytes - 4096, ..plan },
        );
        // Daemons of before have no times of frames, no notes and read no playback.
        let none = Region::default();
        SegmentLayout { frame_times: none, chunk_notes: none, playback: none, ..plan }.check().unwrap();
    }

    /// Sessions are handed over between daemons of different versions: see `Segment::resume`.
    #[test]
    fn segments_have_the_lengths_of_the_first_version() {
        for entries in [2, 8, 64, 4096] {
            for horizon in [1, 50, 101] {
                let plan = SegmentLayout::plan(Geometry { entries, horizon, ..GEOMETRY }).unwrap();
                let ring = entries as usize * ENTRY_WORDS * 8;
                let control = (2 * APART + ring).next_multiple_of(PAGE);
                let latest = (3 * APART + STATS_WORDS * 8).next_multiple_of(APART) + ring;
                let chunks = latest.next_multiple_of(APART) + APART + total_words(14 * horizon as usize) * 8;
                let results = chunks.next_multiple_of(PAGE) + PAGE;
                assert_eq!((plan.control_bytes as usize, plan.results_bytes as usize), (control, results));
                assert!(plan.journal().offset + plan.journal().len <= plan.chunk_notes.offset);
            }
        }
    }
}

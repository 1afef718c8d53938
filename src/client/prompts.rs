//! A session's instructions, numbered independently of the daemon that serves it.

use std::sync::{Arc, OnceLock};

use crate::shm::NO_PROMPT;
use crate::shm::sync::{AtomicU32, Ordering};

/// The registered instructions: the program's number `id` is at `id - 1`.
#[derive(Default)]
pub(super) struct Prompts {
    known: Vec<Prompt>,
    /// The program's number of the instruction set last; 0: none.
    current: u32,
    /// Highest number of the daemon's that an instruction is known under.
    highest: u32,
    /// Number of abandoned requests: the daemon may have registered their instructions under numbers the
    /// program doesn't know.
    given_up: u32,
    numbers: Arc<Numbers>,
}

/// A registered instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Number of the instruction, from [`Requests::set_prompt`](super::Requests::set_prompt).
    pub id: u32,
    /// True if its end was cut off because the policy takes no more tokens.
    pub truncated: bool,
}

struct Prompt {
    text: String,
    truncated: bool,
}

impl Prompts {
    /// The daemon's numbers, for the submissions' class.
    pub fn numbers(&self) -> &Arc<Numbers> {
        &self.numbers
    }

    /// Marks the begin of a request: from now on the daemon may have registered one more.
    pub fn begin(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
        self.reserve();
    }

    /// Records an instruction the daemon has registered, in answer to a request that was begun, makes it the
    /// current one, and returns the program's number.
    pub fn set(&mut self, text: &str, number: u32, truncated: bool) -> u32 {
        let prompt = Prompt { text: text.to_owned(), truncated };
        let index = self.known.iter().position(|known| known.text == text);
        let index = match index {
            Some(index) => {
                self.known[index] = prompt;
                index
            }
            None => {
                self.known.push(prompt);
                self.known.len() - 1
            }
        };
        self.current = index as u32 + 1;
        self.highest = self.highest.max(number);
        self.numbers.set(self.current, number);
        self.answered();
        self.numbers.current.store(self.current, Ordering::Release);
        self.current
    }

    /// Ends a request that the daemon has answered: it has registered nothing that isn't recorded.
    pub fn answered(&mut self) {
        self.given_up = self.given_up.saturating_sub(1);
        self.reserve();
    }

    fn reserve(&self) {
        self.numbers.reserved.store(self.highest.saturating_add(self.given_up), Ordering::Relaxed);
    }

    /// Looks an instruction up; 0 stands for the one set last. None for a number that was never given out.
    pub fn find(&self, id: u32) -> Option<Instruction> {
        let id = if id == 0 { self.current } else { id };
        let Prompt { truncated, .. } = *self.known.get((id as usize).checked_sub(1)?)?;
        Some(Instruction { id, truncated })
    }

    /// The texts, in ascending order of their numbers.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|prompt| &*prompt.text)
    }

    /// Makes the same instruction current as in another session.
    pub fn continue_from(&mut self, other: &Prompts) {
        self.current = other.current;
        self.numbers.current.store(self.current, Ordering::Release);
    }
}

/// Binary logarithm of how many numbers the first part has; each following part has twice as many.
const FIRST: u32 = 6;
const PARTS: usize = (u32::BITS - FIRST) as usize;

/// The daemon's number of each instruction: written by one thread, read by another. Grows by parts that stay where
/// they are, so that reading takes no lock.
#[derive(Default)]
pub(super) struct Numbers {
    parts: [OnceLock<Box<[AtomicU32]>>; PARTS],
    /// Number of instructions the program has numbers of.
    count: AtomicU32,
    /// The program's number of the instruction set last; 0: none.
    current: AtomicU32,
    /// The daemon may have an instruction under each number up to this one.
    reserved: AtomicU32,
}

impl Numbers {
    /// Part and place in it of the program's number `id`, from 1.
    #[inline]
    fn place(id: u32) -> (usize, usize) {
        let n = u64::from(id - 1) + (1 << FIRST);
        let part = n.ilog2() - FIRST;
        (part as usize, (n - (1 << (part + FIRST))) as usize)
    }

    fn set(&self, id: u32, number: u32) {
        let (part, at) = Numbers::place(id);
        let numbers = self.parts[part].get_or_init(|| {
            let len = 1usize << (part as u32 + FIRST);
            (0..len).map(|_| AtomicU32::new(0)).collect()
        });
        numbers[at].store(number, Ordering::Relaxed);
        self.count.fetch_max(id, Ordering::Release);
    }

    /// The daemon's number for the program's; 0 stands for the one set last. Real-time safe.
    #[inline]
    pub fn number(&self, id: u32) -> u32 {
        let known = if id == 0 { self.current.load(Ordering::Acquire) } else { id };
        if known == 0 || known > self.count.load(Ordering::Acquire) {
            return self.unknown(id);
        }
        let (part, at) = Numbers::place(known);
        self.parts[part].get().map_or(NO_PROMPT, |numbers| numbers[at].load(Ordering::Relaxed))
    }

    /// The program's number of the instruction that the daemon knows under `number`; 0: none. Real-time safe.
    pub fn id(&self, number: u32) -> u32 {
        let known = |id: &u32| {
            let (part, at) = Numbers::place(*id);
            self.parts[part].get().is_some_and(|numbers| numbers[at].load(Ordering::Relaxed) == number)
        };
        // The newest first: what is computed is mostly for that.
        let count = if number == 0 { 0 } else { self.count.load(Ordering::Acquire) };
        (1..=count).rev().find(known).unwrap_or(0)
    }

    /// The number to send to the daemon for one that was never given out: the same number, for the refusal to
    /// name, unless the daemon may have an instruction under it.
    #[cold]
    fn unknown(&self, id: u32) -> u32 {
        let reserved = self.reserved.load(Ordering::Relaxed);
        let free = if id == 0 { reserved == 0 } else { id > reserved };
        if free { id } else { NO_PROMPT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(prompts: &mut Prompts, text: &str, number: u32, truncated: bool) -> u32 {
        prompts.begin();
        prompts.set(text, number, truncated)
    }

    #[test]
    fn the_program_s_numbers_stay_whatever_the_daemon_s_are() {
        let mut prompts = Prompts::default();
        assert_eq!(prompts.numbers.number(0), 0);
        assert_eq!(set(&mut prompts, "a", 1, false), 1);
        prompts.begin();
        assert_eq!(set(&mut prompts, "c", 3, true), 2);
        assert_eq!([1, 2].map(|id| prompts.numbers.number(id)), [1, 3]);
        let known = |id, truncated| Some(Instruction { id, truncated });
        let found = [0, 1, 2, 3].map(|id| prompts.find(id));
        assert_eq!(found, [known(2, true), known(1, false), known(2, true), None]);
        assert_eq!([0, 1, 2, 3].map(|number| prompts.numbers.id(number)), [0, 1, 0, 2]);
        // Current is the one set last, not the one registered last.
        assert_eq!(set(&mut prompts, "a", 1, false), 1);
        assert_eq!(prompts.numbers.number(0), 1);
        let mut next = Prompts::default();
        for (text, number) in prompts.texts().zip(1..) {
            set(&mut next, text, number, false);
        }
        next.continue_from(&prompts);
        assert_eq!([0, 1, 2].map(|id| next.numbers.number(id)), [1, 1, 2]);
    }

    #[test]
    fn a_number_that_was_never_given_out_is_nobody_s() {
        let mut prompts = Prompts::default();
        set(&mut prompts, "a", 1, false);
        assert_eq!(prompts.numbers.number(7), 7);
        // The request that was begun, and perhaps abandoned, may be number 2 there.
        prompts.begin();
        assert_eq!([2, 3].map(|id| prompts.numbers.number(id)), [NO_PROMPT, 3]);
        let mut none = Prompts::default();
        none.begin();
        assert_eq!(none.numbers.number(0), NO_PROMPT);
    }

    #[test]
    fn any_number_of_instructions_is_found_while_more_are_added() {
        let mut prompts = Prompts::default();
        let numbers = prompts.numbers().clone();
        let reader = std::thread::spawn(move || {
            let mut id = 1;
            while id <= 1000 {
                match numbers.number(id) {
                    got if got == id + 5 => id += 1,
                    got => assert!(got == NO_PROMPT || got == id, "{got} for {id}"),
                }
            }
        });
        for id in 1..=1000u32 {
            assert_eq!(set(&mut prompts, &id.to_string(), id + 5, false), id);
        }
        reader.join().unwrap();
        assert_eq!(prompts.numbers.number(0), 1005);
        assert_eq!(prompts.numbers.number(1006), 1006);
        assert_eq!(prompts.numbers.number(1001), NO_PROMPT);
    }
}

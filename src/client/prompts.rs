//! A session's instructions, numbered independently of the daemon that serves it.

use crate::shm::NO_PROMPT;

/// The registered instructions: the program's number `id` is at `id - 1`.
#[derive(Default)]
pub(super) struct Prompts {
    known: Vec<Prompt>,
    /// The program's number of the instruction set last; 0: none.
    current: u32,
    /// Number of abandoned requests: the daemon may have registered their instructions under numbers the
    /// program doesn't know.
    given_up: u32,
}

/// A registered instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Number of the instruction, from [`Client::set_prompt`](super::Client::set_prompt).
    pub id: u32,
    /// Whether its end was cut off because the policy takes no more tokens.
    pub truncated: bool,
}

struct Prompt {
    text: String,
    /// The daemon's number of the instruction.
    number: u32,
    truncated: bool,
}

impl Prompts {
    /// Records an instruction the daemon has registered, makes it the current one, and returns the program's
    /// number.
    pub fn set(&mut self, text: &str, number: u32, truncated: bool) -> u32 {
        let prompt = Prompt { text: text.to_owned(), number, truncated };
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
        self.current
    }

    /// Records a request that was abandoned: the daemon may have registered one more.
    pub fn give_up(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
    }

    fn get(&self, id: u32) -> Option<&Prompt> {
        let id = if id == 0 { self.current } else { id };
        self.known.get((id as usize).checked_sub(1)?)
    }

    /// The daemon's number for the program's; 0 stands for the one set last.
    #[inline]
    pub fn number(&self, id: u32) -> u32 {
        self.get(id).map_or_else(|| self.unknown(id), |prompt| prompt.number)
    }

    /// The number to send to the daemon for one that was never given out: the same number, for the refusal to
    /// name, unless the daemon may have an instruction under it.
    #[cold]
    fn unknown(&self, id: u32) -> u32 {
        let highest = self.known.iter().map(|prompt| prompt.number).max().unwrap_or(0);
        let free = if id == 0 { self.given_up == 0 } else { id > highest.saturating_add(self.given_up) };
        if free { id } else { NO_PROMPT }
    }

    /// Looks an instruction up; 0 stands for the one set last. None for a number that was never given out.
    pub fn find(&self, id: u32) -> Option<Instruction> {
        let Prompt { truncated, .. } = *self.get(id)?;
        Some(Instruction { id: if id == 0 { self.current } else { id }, truncated })
    }

    /// The texts, in ascending order of their numbers.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|prompt| &*prompt.text)
    }

    /// Makes the same instruction current as in another session.
    pub fn continue_from(&mut self, other: &Prompts) {
        self.current = other.current;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_s_numbers_stay_whatever_the_daemon_s_are() {
        let mut prompts = Prompts::default();
        assert_eq!(prompts.number(0), 0);
        assert_eq!(prompts.set("a", 1, false), 1);
        prompts.give_up();
        assert_eq!(prompts.set("c", 3, true), 2);
        assert_eq!([1, 2].map(|id| prompts.number(id)), [1, 3]);
        let known = |id, truncated| Some(Instruction { id, truncated });
        let found = [0, 1, 2, 3].map(|id| prompts.find(id));
        assert_eq!(found, [known(2, true), known(1, false), known(2, true), None]);
        // Current is the one set last, not the one registered last.
        assert_eq!(prompts.set("a", 1, false), 1);
        assert_eq!(prompts.number(0), 1);
        let mut next = Prompts::default();
        for (text, number) in prompts.texts().zip(1..) {
            next.set(text, number, false);
        }
        next.continue_from(&prompts);
        assert_eq!([0, 1, 2].map(|id| next.number(id)), [1, 1, 2]);
    }

    #[test]
    fn a_number_that_was_never_given_out_is_nobody_s() {
        let mut prompts = Prompts::default();
        prompts.set("a", 1, false);
        assert_eq!(prompts.number(7), 7);
        // The abandoned request may be number 2 there.
        prompts.give_up();
        assert_eq!([2, 3].map(|id| prompts.number(id)), [NO_PROMPT, 3]);
        let mut none = Prompts::default();
        none.give_up();
        assert_eq!(none.number(0), NO_PROMPT);
    }
}

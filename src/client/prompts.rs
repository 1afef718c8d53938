//! A session's instructions, under numbers that stay the same whichever daemon serves it.

use crate::shm::NO_PROMPT;

/// What was registered: the program's number `id` is at `id - 1`.
#[derive(Default)]
pub(super) struct Prompts {
    known: Vec<Prompt>,
    /// The program's number of the one set last; 0: none was.
    current: u32,
    /// Requests that were given up: the daemon may have registered instructions that the program has no number of.
    given_up: u32,
}

/// An instruction that the program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its number, from [`Client::set_prompt`](super::Client::set_prompt).
    pub id: u32,
    /// Whether its end was cut off because the policy takes no more tokens.
    pub truncated: bool,
}

struct Prompt {
    text: String,
    /// The daemon's number.
    number: u32,
    truncated: bool,
}

impl Prompts {
    /// Takes in what the daemon has registered, makes it the current one, and returns the program's number.
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

    /// Nobody knows whether the daemon has registered one more.
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

    /// What the daemon is told for a number that was never given out: that number, for it to name in its refusal,
    /// unless it might have an instruction under it.
    #[cold]
    fn unknown(&self, id: u32) -> u32 {
        let highest = self.known.iter().map(|prompt| prompt.number).max().unwrap_or(0);
        let free = if id == 0 { self.given_up == 0 } else { id > highest.saturating_add(self.given_up) };
        if free { id } else { NO_PROMPT }
    }

    /// What is known of an instruction; 0 stands for the one set last. None for a number that was never given out.
    pub fn find(&self, id: u32) -> Option<Instruction> {
        let Prompt { truncated, .. } = *self.get(id)?;
        Some(Instruction { id: if id == 0 { self.current } else { id }, truncated })
    }

    /// The texts, by ascending numbers.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|prompt| &*prompt.text)
    }

    /// Makes the same one current as it is in another session.
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
        // The one that was set last, not the one that was registered last.
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
        // What was given up may be number 2 there.
        prompts.give_up();
        assert_eq!([2, 3].map(|id| prompts.number(id)), [NO_PROMPT, 3]);
        let mut none = Prompts::default();
        none.give_up();
        assert_eq!(none.number(0), NO_PROMPT);
    }
}

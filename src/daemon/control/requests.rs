//! Requests of sessions over their sockets: instructions and resets.

use std::sync::Arc;

use super::super::accounts::MAX_WAITING;
use super::super::table::Registered;
use super::request_queue::{Job, PromptJob, PromptOutcome, Turn};
use super::state::Control;
use crate::control::{Refusal, Reply, Status};

impl<P: Send + Sync + 'static> Control<P> {
    /// Queues an instruction to register.
    pub(super) fn ask_for_prompt(&mut self, id: u64, text: String, flush: bool, number: u32) {
        self.ask(id, Job::Prompt { text, flush, number });
    }

    /// Queues the beginning of a new episode.
    pub(super) fn ask_for_reset(&mut self, id: u64, number: u32) {
        self.ask(id, Job::Reset(number));
    }

    fn ask(&mut self, id: u64, job: Job) {
        if !self.requests.add(id, job) {
            self.fail(id, format!("it has {MAX_WAITING} requests waiting"));
        }
    }

    /// Serves one request of each session that has any.
    pub(super) fn serve_requests(&mut self) {
        while let Some(finish_prompt) = self.instructions.take() {
            self.finish_prompt(finish_prompt);
        }
        for _ in 0..self.requests.queues.len() {
            let Some((id, turn)) = self.requests.next() else { return };
            match turn {
                Turn::Known { prompt_id, truncated, flush, number } => {
                    let mut begun = None;
                    if let Some(session) = self.shared.lock().session(id)
                        && let Some(known) = session.prompts.get_mut(prompt_id as usize - 1)
                    {
                        known.flush = flush;
                        session.channel.flushes += u32::from(flush);
                        begun = session.channel.begun();
                    }
                    self.answer(id, number, &Reply::PromptReady { prompt_id, truncated, begun });
                }
                Turn::Refuse(reason, number) => {
                    let refusal = Refusal { status: Status::Refused, reason };
                    self.answer(id, number, &Reply::Refused(refusal));
                }
                Turn::Make(text) => {
                    let user = self.requests.queue(id).map_or(0, |queue| queue.user);
                    self.instructions.submit(PromptJob { session: id, user, text });
                }
                Turn::Reset(number) => self.reset(id, number),
            }
        }
    }

    fn reset(&mut self, id: u64, number: u32) {
        let mut table = self.shared.lock();
        let Some(session) = table.session(id) else { return };
        let result = session.channel.reset();
        session.apply(result);
        let episode = session.channel.episode();
        drop(table);
        self.answer(id, number, &Reply::ResetDone { episode });
    }

    /// Registers a new prompt and replies.
    fn finish_prompt(&mut self, PromptOutcome { session: id, prompt }: PromptOutcome<P>) {
        // The session may have ended meanwhile.
        let Some(job) = self.requests.finish_prompt() else { return };
        let (text, flush, asked) = match job {
            Job::Prompt { text, flush, number } => (text, flush, Some(number)),
            Job::Restore(text) => (text, false, None),
            Job::Reset(_) | Job::Refuse(..) => return,
        };
        let (prompt, truncated) = match prompt {
            Ok(finish_prompt) => finish_prompt,
            Err(refusal) => {
                let Some(number) = asked else {
                    let why = format!("its instruction {text:?} can't be taken over: {}", refusal.reason);
                    return self.fail(id, why);
                };
                return self.answer(id, number, &Reply::Refused(refusal));
            }
        };
        let Some(queue) = self.requests.queue(id) else { return };
        queue.texts.push((text, truncated));
        queue.kept.grow_unchecked(1);
        let (prompt_id, restores) = (queue.texts.len() as u32, queue.restores());
        let text = queue.texts.last().map_or("", |(text, _)| text);
        let mut table = self.shared.lock();
        let Some(session) = table.session(id) else { return };
        session.prompts.push(Registered { prompt: Arc::new(prompt), flush });
        session.channel.flushes += u32::from(flush);
        let begun = session.channel.begun();
        let was_restoring = std::mem::replace(&mut session.restoring, restores);
        let record = session.record.as_mut().filter(|_| asked.is_some());
        let kept = record.map_or(Ok(()), |record| record.add_prompt(text));
        drop(table);
        if let Err(error) = kept {
            return self.fail(id, format!("its record can't be written to: {error}"));
        }
        if let Some(number) = asked {
            self.answer(id, number, &Reply::PromptReady { prompt_id, truncated, begun });
        } else if was_restoring && !restores {
            self.doorbells.kick();
        }
    }
}

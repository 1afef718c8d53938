//! A session, for programs that use it in one thread.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::actions::Actions;
use super::completions::Completions;
use super::connect::Options;
use super::connection::{Connection, Made};
use super::error::ClientError;
use super::observation::Observation;
use super::player::Answer;
use super::prompts::Instruction;
use super::requests::Requests;
use super::shared::Shared;
use super::submissions::Submissions;
use crate::control::{PolicyDescription, Rate, Welcome};
use crate::shm::clock::Clock;
use crate::shm::{ChunkHeader, Completion, Stats};

/// A session with the daemon. Its four parts can be moved to a thread each.
pub struct Client {
    /// Instructions, episodes, reconnecting. May block.
    pub requests: Requests,
    /// Observations, to the daemon. Real-time safe.
    pub submissions: Submissions,
    /// Completions, from the daemon. Real-time safe, except for waiting.
    pub completions: Completions,
    /// Chunks and the actions in them. Real-time safe.
    pub actions: Actions,
}

impl Client {
    /// Opens a session. Not real time.
    ///
    /// # Errors
    /// No daemon, another version, a refusal, or a system call that failed.
    pub fn open(options: &Options) -> Result<Client, ClientError> {
        Ok(Client::over(Connection::open(options, 0, 0)?, options))
    }

    /// A client over its first connection.
    pub(super) fn over(made: Made, options: &Options) -> Client {
        let Made { connection, submissions, mut completions, actions } = made;
        completions.follow_up(connection.welcome.layout.geometry.entries as usize, Vec::new(), 0);
        let (shared, clock) = (Arc::new(Shared::new()), Clock::new());
        let stale_after_ns = options.stale_after_ns;
        Client {
            submissions: Submissions::new(shared.clone(), submissions, clock.clone()),
            completions: Completions::new(shared.clone(), completions, stale_after_ns),
            actions: Actions::new(shared.clone(), actions, clock, stale_after_ns),
            requests: Requests::new(shared, connection, options.clone()),
        }
    }

    /// The policy the daemon serves.
    pub fn policy(&self) -> &PolicyDescription {
        self.requests.policy()
    }

    /// The daemon's welcome, from when the session was opened or reopened.
    pub fn welcome(&self) -> &Welcome {
        self.requests.welcome()
    }

    /// As [`Actions::statistics`].
    pub fn statistics(&mut self) -> Stats {
        self.actions.statistics()
    }

    /// As [`Actions::rate`].
    pub fn rate(&self) -> Option<Rate> {
        self.requests.rate()
    }

    /// As [`Requests::set_prompt`].
    ///
    /// # Errors
    /// As there.
    pub fn set_prompt(&mut self, text: &str) -> Result<u32, ClientError> {
        self.requests.set_prompt(text)
    }

    /// As [`Requests::set_prompt_flush`].
    ///
    /// # Errors
    /// As there.
    pub fn set_prompt_flush(&mut self, text: &str) -> Result<u32, ClientError> {
        self.requests.set_prompt_flush(text)
    }

    /// As [`Requests::instruction`].
    pub fn instruction(&self, prompt_id: u32) -> Option<Instruction> {
        self.requests.instruction(prompt_id)
    }

    /// As [`Requests::reset`].
    ///
    /// # Errors
    /// As there.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.requests.reset()
    }

    /// As [`Requests::reconnect`]; all parts are on the new connection afterwards.
    ///
    /// # Errors
    /// As there.
    pub fn reconnect(&mut self) -> Result<(), ClientError> {
        self.requests.reconnect()?;
        self.submissions.follow();
        self.completions.follow();
        self.actions.follow();
        self.requests.free_returned();
        Ok(())
    }

    /// As [`Submissions::acquire`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn acquire(&mut self) -> Result<u32, ClientError> {
        self.submissions.acquire()
    }

    /// As [`Submissions::release`].
    ///
    /// # Errors
    /// As there.
    pub fn release(&mut self, slot: u32) -> Result<(), ClientError> {
        self.submissions.release(slot)
    }

    /// As [`Submissions::state`].
    pub fn state(&self, slot: u32) -> Option<*mut f32> {
        self.submissions.state(slot)
    }

    /// As [`Submissions::frame`].
    pub fn frame(&self, slot: u32, camera: usize) -> Option<*mut u8> {
        self.submissions.frame(slot, camera)
    }

    /// Capacity of a camera's frame, bytes.
    pub fn frame_capacity(&self) -> usize {
        self.welcome().layout.geometry.frame_bytes as usize
    }

    /// As [`Submissions::submit`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn submit(&mut self, observation: &Observation) -> Result<u64, ClientError> {
        self.submissions.submit(observation)
    }

    /// As [`Completions::poll`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn poll(&mut self) -> Result<Completion, ClientError> {
        self.completions.poll()
    }

    /// As [`Completions::explain`].
    pub fn explain<'a>(&'a self, completion: &Completion) -> impl fmt::Display + 'a {
        self.completions.explain(completion)
    }

    /// As [`Completions::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&mut self, ticket: Option<u64>, timeout_ns: u64) -> Result<Completion, ClientError> {
        self.completions.wait(ticket, timeout_ns)
    }

    /// As [`Completions::fd`].
    ///
    /// # Errors
    /// As there.
    pub fn fd(&mut self) -> Result<BorrowedFd<'_>, ClientError> {
        self.completions.fd()
    }

    /// As [`Actions::chunk_latest`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    #[allow(clippy::type_complexity)]
    pub fn chunk_latest(&mut self) -> Result<(ChunkHeader, &[f32], Result<(), ClientError>), ClientError> {
        self.actions.chunk_latest()
    }

    /// As [`Actions::action_at`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn action_at(
        &mut self,
        t_ns: u64,
        action: &mut [f32],
    ) -> Result<(Answer, Result<(), ClientError>), ClientError> {
        self.actions.action_at(t_ns, action)
    }

    /// As [`Actions::motion_at`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn motion_at(
        &mut self,
        t_ns: u64,
        action: &mut [f32],
        velocity: Option<&mut [f32]>,
    ) -> Result<(Answer, Result<(), ClientError>), ClientError> {
        self.actions.motion_at(t_ns, action, velocity)
    }

    /// As [`Actions::start_from`].
    ///
    /// # Errors
    /// As there.
    pub fn start_from(&mut self, command: &[f32]) -> Result<(), ClientError> {
        self.actions.start_from(command)
    }
}

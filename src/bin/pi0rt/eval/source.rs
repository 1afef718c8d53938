//! Where chunks come from: a checkpoint's policy.

use std::collections::HashMap;
use std::error::Error;

use pi0rt::control::PolicyDescription;
use pi0rt::daemon::{CarryOver, Engine, Guidance, PolicyEngine};
use pi0rt::model::Rtc;
use pi0rt::policy::{
    Chunk, Continuation, Frame, Noise, Observation, PixelFormat, Policy, PolicyOptions, Prompt,
};

use super::Args;
use super::condition::Condition;
use crate::tabletop::{Camera, JOINTS, NAMES, RATE_HZ, SIDE, Task};

/// Bytes of a camera's frame.
pub const FRAME: usize = SIDE * SIDE * 3;

/// An observation of the simulated arm.
pub struct Seen<'a> {
    /// Time since the episode's begin, ns.
    pub at_ns: u64,
    /// Frame of each camera, RGB `[SIDE, SIDE, 3]`, in the order of [`ChunkSource::cameras`].
    pub frames: &'a [Vec<u8>],
    /// Positions of the joints.
    pub state: [f32; JOINTS],
    /// The task that is told.
    pub told: Task,
}

/// A source of chunks.
pub trait ChunkSource {
    /// The cameras it is shown, in order.
    fn cameras(&self) -> &[Camera];

    /// The policy as a client is told of it.
    fn description(&self) -> &PolicyDescription;

    /// A chunk's results for the next one.
    fn carry_over(&self) -> CarryOver;

    /// Computes the chunk of an observation, with noise `[horizon, max_action_dim]`.
    ///
    /// # Errors
    /// The policy's.
    fn chunk(
        &mut self,
        seen: &Seen<'_>,
        noise: &[f32],
        rtc: Option<Rtc<'_>>,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), Box<dyn Error>>;

    /// Number of a chunk's noise values.
    fn noise_len(&self) -> usize;

    /// An empty chunk of the policy's size.
    fn room(&self) -> Chunk;
}

/// A checkpoint's policy on a device.
pub struct Loaded {
    engine: PolicyEngine,
    description: PolicyDescription,
    carry_over: CarryOver,
    cameras: Vec<Camera>,
    room: Chunk,
    noise_len: usize,
    /// By instruction.
    prompts: HashMap<String, Prompt>,
}

impl Loaded {
    /// Loads the policy of a condition, prepared for all of them.
    ///
    /// # Errors
    /// Those of loading; a policy that isn't one for the simulated arm.
    pub fn open(
        args: &Args,
        all: &[Condition<'_>],
        condition: &Condition<'_>,
    ) -> Result<Loaded, Box<dyn Error>> {
        let guided = all.iter().any(Condition::is_guided);
        let mut policy = Policy::load(
            &args.checkpoint,
            &PolicyOptions {
                device: condition.device.choose()?,
                steps: condition.steps.map(usize::from),
                profile: args.profile.clone(),
                guidance: guided.then_some(Guidance::default().max_weight),
                keep_prefix: all.iter().any(Condition::keeps_prefix),
                ..PolicyOptions::default()
            },
        )?;
        policy.warm_up()?;
        let info = policy.info();
        let (room, noise_len) = (Chunk::new(info), info.horizon * info.max_action_dim);
        let named = |name: &str| {
            let cameras = "front and wrist";
            Camera::named(name).ok_or(format!("camera {name}: the simulated arm has {cameras}"))
        };
        let cameras = info.cameras.iter().map(|camera| named(&camera.name)).collect::<Result<_, _>>()?;
        let engine = PolicyEngine::new(policy);
        let (description, carry_over) = (engine.describe(), engine.carry_over());
        check(&description)?;
        Ok(Loaded { engine, description, carry_over, cameras, room, noise_len, prompts: HashMap::new() })
    }

    /// Rows of a chunk to execute before the next one, if declared.
    pub fn execution_horizon(&self) -> Option<u32> {
        Some(self.description.execution_horizon).filter(|rows| *rows > 0)
    }

    /// Rows of a chunk.
    pub fn horizon(&self) -> u32 {
        self.description.horizon
    }

    /// Denoising steps of a chunk.
    pub fn steps(&self) -> usize {
        self.description.steps as usize
    }

    /// True if chunks may keep a prefix.
    pub fn keeps_prefix(&self) -> bool {
        self.carry_over.keeps_prefix
    }
}

/// Checks that a policy is one for the simulated arm.
fn check(policy: &PolicyDescription) -> Result<(), String> {
    for (what, width, dimensions) in
        [("state", policy.state_dim, &policy.state), ("actions", policy.action_dim, &policy.action)]
    {
        if width as usize != JOINTS {
            return Err(format!("{what} of {width} values, the simulated arm has {JOINTS} joints"));
        }
        for (dimension, joint) in dimensions.iter().zip(NAMES) {
            let name = &dimension.name;
            if !name.is_empty() && name != joint {
                return Err(format!("{what}: value {name:?}, the simulated arm has {joint:?} there"));
            }
        }
    }
    match policy.rate {
        Some(rate) if rate.hz == RATE_HZ as f32 => Ok(()),
        Some(rate) => Err(format!("rows at {} Hz, the simulated arm takes {RATE_HZ}", rate.hz)),
        None => Err(format!("no control rate is declared, the simulated arm takes {RATE_HZ} Hz")),
    }
}

impl ChunkSource for Loaded {
    fn cameras(&self) -> &[Camera] {
        &self.cameras
    }

    fn description(&self) -> &PolicyDescription {
        &self.description
    }

    fn carry_over(&self) -> CarryOver {
        self.carry_over
    }

    fn chunk(
        &mut self,
        seen: &Seen<'_>,
        noise: &[f32],
        rtc: Option<Rtc<'_>>,
        continuation: Continuation<'_>,
        chunk: &mut Chunk,
    ) -> Result<(), Box<dyn Error>> {
        let policy = self.engine.policy();
        let text = seen.told.to_string();
        if !self.prompts.contains_key(&text) {
            self.prompts.insert(text.clone(), policy.prompt(&text)?);
        }
        let frames: Vec<Option<Frame<'_>>> = seen
            .frames
            .iter()
            .map(|data| {
                let format = PixelFormat::Rgb8;
                Some(Frame { data, width: SIDE, height: SIDE, stride: SIDE * 3, format })
            })
            .collect();
        let prompt = &self.prompts[&text];
        let observation = Observation { frames: &frames, state: &seen.state, prompt, rtc };
        Ok(policy.infer_with(&observation, Noise::Given(noise), continuation, chunk)?)
    }

    fn noise_len(&self) -> usize {
        self.noise_len
    }

    fn room(&self) -> Chunk {
        self.room.clone()
    }
}

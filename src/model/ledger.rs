//! Where every operation of a chunk ran, counted per module.

use crate::device::Ran;

/// PI0's modules, one file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// `pi0.rs`: the whole chunk.
    Main,
    /// `paligemma.rs`: vision tower, projector, language model and expert together.
    Backbone,
    /// `siglip.rs`: the vision tower.
    Vision,
    /// `suffix.rs`: embeddings of state, actions and time.
    Suffix,
    /// `prefix.rs`: embeddings of images and text.
    Prefix,
    /// `common.rs`: noise, time embedding.
    Common,
    /// `gemma.rs`: the blocks of prefix and expert.
    Language,
    /// `denoise.rs`: flow matching.
    Denoise,
    /// `attention.rs`: positions, rotary embedding, KV cache, attention.
    Attention,
}

impl Module {
    /// All modules, in the order in which tables list them.
    pub const ALL: [Module; 9] = [
        Module::Main,
        Module::Backbone,
        Module::Vision,
        Module::Suffix,
        Module::Prefix,
        Module::Common,
        Module::Language,
        Module::Denoise,
        Module::Attention,
    ];

    /// Name and source file.
    pub const fn name(self) -> &'static str {
        match self {
            Module::Main => "Main model (pi0.rs)",
            Module::Backbone => "Backbone (paligemma.rs)",
            Module::Vision => "Vision (siglip.rs)",
            Module::Suffix => "Suffix (suffix.rs)",
            Module::Prefix => "Prefix (prefix.rs)",
            Module::Common => "Common (common.rs)",
            Module::Language => "Language (gemma.rs)",
            Module::Denoise => "Denoise (denoise.rs)",
            Module::Attention => "Attention (attention.rs)",
        }
    }
}

macro_rules! ops {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// The operations of [`Device`](crate::device::Device), as the ledger names them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Op { $($variant),* }

        impl Op {
            /// Every operation.
            pub const ALL: &[Op] = &[$(Op::$variant),*];

            /// Name, as in the trait.
            pub const fn name(self) -> &'static str {
                match self { $(Op::$variant => $name),* }
            }
        }
    };
}

ops! {
    PatchEmbed "patch_embed", Embed "embed", LayerNorm "layer_norm", RmsNorm "rms_norm",
    Linear "linear", Geglu "geglu", Rope "rope", CacheWrite "cache_write", Attention "attention",
    Copy "copy", Guide "guide", EulerStep "euler_step", Write "write", Read "read",
}

impl Op {
    /// Inputs and outputs cross between host and device by nature; they are listed, not rated.
    pub const fn is_transfer(self) -> bool {
        matches!(self, Op::Write | Op::Read)
    }
}

/// How often an operation ran, and where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// On the device.
    pub device: u32,
    /// On the host.
    pub host: u32,
}

/// Counts of one or more chunks. Recording allocates nothing.
#[derive(Clone, Debug)]
pub struct Ledger {
    counts: [[Count; Op::ALL.len()]; Module::ALL.len()],
}

impl Default for Ledger {
    fn default() -> Self {
        Self { counts: [[Count::default(); Op::ALL.len()]; Module::ALL.len()] }
    }
}

impl Ledger {
    /// Enters one operation.
    pub fn enter(&mut self, module: Module, op: Op, ran: Ran) {
        let count = &mut self.counts[module as usize][op as usize];
        match ran {
            Ran::Device => count.device += 1,
            Ran::Host => count.host += 1,
        }
    }

    /// Counts of one operation in one module.
    pub fn count(&self, module: Module, op: Op) -> Count {
        self.counts[module as usize][op as usize]
    }

    /// Counts of a module's operations, transfers left out.
    pub fn module(&self, module: Module) -> Count {
        Op::ALL.iter().filter(|op| !op.is_transfer()).fold(Count::default(), |sum, &op| {
            let c = self.count(module, op);
            Count { device: sum.device + c.device, host: sum.host + c.host }
        })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

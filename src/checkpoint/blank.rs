//! A checkpoint without files: for planning.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use memmap2::MmapOptions;

use super::camera::Camera;
use super::error::CheckpointError;
use super::faults::Faults;
use super::files::Files;
use super::layout::Layout;
use super::mapped::Mapped;
use super::open::Checkpoint;
use super::safetensors::SafeTensors;
use super::variant::StateInput;
use super::weights::{Spec, embeddings, weights};
use super::{Arch, Dimension, Dtype, Processing, Tensor};

impl Checkpoint {
    /// A model of these sizes for `cameras` cameras, with all weights zero. Every tensor maps the same zero
    /// pages, so even the full size takes no memory.
    ///
    /// # Errors
    /// If the sizes can't be a PI0 model, or no address space is available.
    pub fn blank(arch: &Arch, cameras: usize) -> Result<Self, CheckpointError> {
        arch.check().map_err(CheckpointError::Arch)?;
        let dtype = Dtype::Bf16;
        let [embedding, ..] = embeddings(arch);
        let specs: Vec<Spec> = weights(arch).into_iter().chain([embedding]).collect();
        let bytes = |spec: &Spec| spec.shape.iter().product::<usize>() * dtype.size();
        let most = specs.iter().map(bytes).max().unwrap_or(0);
        let path = Path::new("(no files)");
        let zeros = MmapOptions::new()
            .len(most)
            .no_reserve_swap()
            .map_anon()
            .and_then(memmap2::MmapMut::make_read_only)
            .map_err(|e| CheckpointError::io(path, "reserve address space", e))?;
        let zeros = Arc::new(Mapped::new(zeros, None));
        let used: HashSet<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        let tensors = specs
            .into_iter()
            .map(|spec| {
                let end = bytes(&spec);
                Tensor::new(spec.name, dtype, spec.shape, zeros.clone(), 0..end)
            })
            .collect();
        let files = Files::new(path, vec![SafeTensors::of(path, tensors)])?;
        let processing = Processing {
            cameras: (0..cameras).map(|i| Camera::new(format!("camera_{i}"))).collect(),
            state_steps: Vec::new(),
            state: None,
            action: None,
            action_steps: Vec::new(),
            steps_origin: String::new(),
            robot_state: vec![Dimension::default(); arch.state_dim],
            robot_action: vec![Dimension::default(); arch.action_dim],
            missing_camera_last: true,
            antialias: false,
            pad_before: false,
            clean_prompt: arch.variant.state == StateInput::Text,
            state_text: (arch.variant.state == StateInput::Text).then_some(arch.state_dim),
            frame_border: -1.0,
            text_scaled_twice: false,
            tokenizer: None,
            max_tokens: arch.tokenizer_max_length,
            truncate_prompt: false,
            rate: None,
            overruled_rate: None,
            execution_horizon: None,
            motion: Default::default(),
        };
        Ok(Self {
            files,
            layout: Layout::Lerobot,
            arch: arch.clone(),
            processing,
            profile: None,
            faults: Faults::default(),
            used,
        })
    }
}

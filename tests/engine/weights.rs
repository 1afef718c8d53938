//! Weights in other tools' dtypes beside those of the model.

use crate::checkpoints::{Model, TempDir, lerobot, messages};
use pi0rt::checkpoint::{Checkpoint, Dtype, SafeTensors};

#[test]
fn unused_tensors_may_have_any_dtype() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    for dtype in Dtype::ALL {
        model.push(&format!("more.{dtype}"), dtype.name(), &[2, 3], vec![1; 6 * dtype.size()]);
    }
    model.write(&dir);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let unused = checkpoint.unused();
    let more: Vec<Dtype> =
        unused.iter().filter(|t| t.name().starts_with("more.")).map(|t| t.dtype()).collect();
    assert_eq!(more, Dtype::ALL);
}

#[test]
fn needed_tensors_must_be_floats_of_32_or_16_bits() {
    for dtype in Dtype::ALL.into_iter().filter(|dtype| !dtype.is_weight()) {
        let dir = lerobot();
        let mut model = Model::read(&dir);
        let bias = model.get("model.state_proj.bias");
        bias.dtype = dtype.name().into();
        bias.bytes = vec![0; 48 * dtype.size()];
        model.write(&dir);
        let error = Checkpoint::open(&dir).unwrap_err().to_string();
        messages(&error, &["\"state_proj.bias\"", dtype.name(), "expected F32, BF16 or F16"]);
    }
}

/// The name in lerobot before 0.3.3, following an older transformers.
fn old_name(name: &str) -> String {
    const NAMES: [(&str, &str); 4] = [
        ("paligemma.lm_head", "paligemma.language_model.lm_head"),
        ("paligemma.model.language_model", "paligemma.language_model.model"),
        ("paligemma.model.vision_tower", "paligemma.vision_tower"),
        ("paligemma.model.multi_modal_projector", "paligemma.multi_modal_projector"),
    ];
    NAMES.iter().fold(name.to_owned(), |name, (new, old)| name.replace(new, old))
}

#[test]
fn the_names_that_lerobot_had_up_to_0_3_2_are_known() {
    let (dir, old) = (lerobot(), lerobot());
    let mut model = Model::read(&old);
    let mut renamed = 0;
    for tensor in &mut model.tensors {
        let name = old_name(&tensor.name);
        renamed += usize::from(name != tensor.name);
        tensor.name = name;
    }
    model.write(&old);
    let (is, was) = (Checkpoint::open(&dir).unwrap(), Checkpoint::open(&old).unwrap());
    let numbers = |of: &Checkpoint| {
        let mut tensors: Vec<_> = of.tensors().map(|t| (t.name().to_owned(), t.bytes().to_vec())).collect();
        tensors.sort();
        tensors
    };
    assert!(renamed > 30 && numbers(&is) == numbers(&was), "{renamed}");
    assert_eq!(was.unused().len(), is.unused().len());
}

#[test]
fn a_tensor_under_an_old_and_a_new_name_is_refused() {
    let dir = lerobot();
    let mut model = Model::read(&dir);
    let bias = model.get("model.paligemma_with_expert.paligemma.model.multi_modal_projector.linear.bias");
    let (name, dtype, shape) = (old_name(&bias.name), bias.dtype.clone(), bias.shape.clone());
    let zeros = vec![0; bias.bytes.len()];
    model.push(&name, &dtype, &shape, zeros);
    model.write(&dir);
    let error = Checkpoint::open(&dir).unwrap_err().to_string();
    messages(&error, &["multi_modal_projector.linear.bias", "is there twice", "before and since 0.3.3"]);
}

#[test]
fn numbers_of_every_dtype_are_read() {
    let dir = TempDir::new();
    let mut model = Model::default();
    for (dtype, three) in [
        ("F32", 3f32.to_le_bytes().to_vec()),
        ("F64", 3f64.to_le_bytes().to_vec()),
        ("BF16", vec![0x40, 0x40]),
        ("F16", vec![0x00, 0x42]),
        ("I64", 3i64.to_le_bytes().to_vec()),
        ("U64", 3u64.to_le_bytes().to_vec()),
        ("I32", 3i32.to_le_bytes().to_vec()),
        ("U32", 3u32.to_le_bytes().to_vec()),
        ("I16", 3i16.to_le_bytes().to_vec()),
        ("U16", 3u16.to_le_bytes().to_vec()),
        ("I8", vec![3]),
        ("U8", vec![3]),
    ] {
        model.push(dtype, dtype, &[2], [&three[..], &three].concat());
    }
    model.write(&dir);
    let file = SafeTensors::open(&dir.join("model.safetensors")).unwrap();
    for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_number()) {
        assert_eq!(file.tensor(dtype.name()).unwrap().to_f32(), [3.0, 3.0], "{dtype}");
    }
}

//! Values are processed as the checkpoint's origin does, or the checkpoint is refused: the fuzz target's
//! own code on a fixed list of inputs. `fuzz_corpus` replays the inputs kept from fuzzing.

#[path = "../../fuzz/harness/mod.rs"]
mod harness;

use std::sync::atomic::Ordering;

use harness::processing::{
    OUTCOMES, check,
    declaration::{Declaration, Origin},
    oracle, run,
};
use serde_json::{Map, Value, json};

const INPUTS: u64 = 500;

#[test]
fn what_an_origin_writes_is_served() {
    for origin in [Origin::Processors, Origin::Buffers, Origin::OpenPi] {
        let declaration = Declaration::of(origin);
        let asked = oracle::asked(&declaration).unwrap();
        assert!(asked.state.norm.is_some() && asked.action.norm.is_some() && asked.may_refuse.is_empty());
        check(&declaration);
    }
}

/// Calls `change` with each object in `value`.
fn objects(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            change(map);
            map.values_mut().for_each(|value| objects(value, change));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| objects(value, change)),
        _ => {}
    }
}

/// Checks the declaration once per object of its files, with the object changed by `change`, whose number
/// counts earlier changes of that object. `false` means there is nothing more to change in it.
fn in_every_object(mut change: impl FnMut(&mut Map<String, Value>, usize) -> bool) {
    for origin in [Origin::Processors, Origin::Buffers, Origin::OpenPi] {
        let original = Declaration::of(origin);
        for file in original.json.keys() {
            let mut count = 0;
            objects(&mut original.json[file].clone(), &mut |_| count += 1);
            for wanted in 0..count {
                for time in 0.. {
                    let (mut declaration, mut at, mut more) = (original.clone(), 0, false);
                    objects(declaration.json.get_mut(file).unwrap(), &mut |map| {
                        if at == wanted {
                            more = change(map, time);
                        }
                        at += 1;
                    });
                    if !more {
                        break;
                    }
                    check(&declaration);
                }
            }
        }
    }
}

#[test]
fn a_field_nobody_knows_is_refused_wherever_it_stands() {
    const FIELDS: [(&str, f64); 3] = [("clip", 2.0), ("offset", 0.5), ("scale", 3.0)];
    in_every_object(|map, time| {
        let Some((name, value)) = FIELDS.get(time) else { return false };
        map.insert((*name).into(), json!(value));
        true
    });
}

#[test]
fn fields_that_are_missing_or_of_another_type_are_the_origins_or_refused() {
    in_every_object(|map, time| {
        let Some(key) = map.keys().nth(time / 2).cloned() else { return false };
        match time % 2 {
            0 => drop(map.shift_remove(&key)),
            _ => drop(map.insert(key, json!(0.5))),
        }
        true
    });
}

#[test]
fn numbers_are_the_origins_or_refused() {
    for seed in 0..INPUTS {
        // SplitMix64.
        let bytes: Vec<u8> = (0..6 + seed % 40)
            .map(|i| {
                let mut z = (seed << 8 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ z >> 31) as u8
            })
            .collect();
        run(&bytes);
    }
    let outcomes = OUTCOMES.each_ref().map(|outcome| outcome.load(Ordering::Relaxed));
    println!("served, refused, refused though understood: {outcomes:?}");
    // Neither outcome dominates, so both are tested.
    assert!(outcomes[0] > INPUTS / 10 && outcomes[1] > INPUTS / 10, "{outcomes:?}");
}

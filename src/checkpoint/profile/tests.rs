use proptest::prelude::*;

use super::*;
use crate::checkpoint::contract::{Dimension, Limits, Quantity};

fn parse(text: &str) -> Result<Profile, String> {
    Profile::parse("FILE", Some(Path::new("FILE")), text).map_err(|error| error.to_string())
}

#[test]
fn every_built_in_profile_is_right_and_says_what_it_is() {
    for (name, text) in Profile::built_in() {
        let profile = Profile::find(name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(profile.name(), name);
        assert!(!profile.summary().is_empty(), "{name}");
        // The text can be copied into a file.
        parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(Profile::choices().lines().count(), Profile::built_in().count());
}

#[test]
fn a_profile_stands_over_its_base() {
    let text = r#"
        base = "aloha"
        rate_hz = 25.5
        [action]
        steps = []
        [state.limits]
        left_waist = { position = [-3, 3] }
        13 = { velocity = 2 }
    "#;
    let (own, base) = (parse(text).unwrap(), Profile::find("aloha").unwrap());
    assert_eq!(own.rate_hz.as_ref().unwrap().value, 25.5);
    assert_eq!(own.execution_horizon, base.execution_horizon);
    assert_eq!(
        (own.state.steps.clone(), own.action.steps.clone()),
        (base.state.steps.clone(), Some(Vec::new()))
    );
    let describe = |profile: &Profile| {
        let mut dimensions = vec![Dimension::default(); 14];
        profile.state.describe(&mut dimensions).unwrap();
        dimensions
    };
    let (mut expected, got) = (describe(&base), describe(&own));
    let waist = &expected[0];
    assert_eq!(
        (waist.name.as_str(), waist.quantity, waist.unit.as_str()),
        ("left_waist", Quantity::Position, "rad")
    );
    expected[0].limits.position = Some([-3.0, 3.0]);
    expected[13].limits = Limits { velocity: Some(2.0), ..expected[13].limits };
    assert_eq!(got, expected);
}

#[test]
fn widths_come_from_the_robot_or_from_the_statistics() {
    let widths = |text: &str, state, action| {
        let (state, action) = parse(text).unwrap().widths(state, action).unwrap();
        let pair = |widths: Option<Widths>| widths.map(|widths| (widths.robot, widths.model));
        (pair(state), pair(action))
    };
    assert_eq!(widths("", None, None), (None, None));
    assert_eq!(widths("", Some(7), Some(8)), (Some((7, 7)), Some((8, 8))));
    // Statistics may have more columns than the robot has dimensions.
    assert_eq!(widths("state.width = 7\naction.width = 6", Some(32), Some(32)), (Some((7, 7)), Some((6, 6))));
    let selects = "state.width = 9\nstate.steps = [{ select = [\"2..9\"] }]\n\
                   action.steps = [{ select = [0, 2, 1] }]\n";
    assert_eq!(widths(selects, Some(7), Some(8)), (Some((9, 7)), Some((3, 8))));
    let model_width = format!("{selects}action.model_width = 5");
    assert_eq!(widths(&model_width, None, None), (Some((9, 7)), Some((3, 5))));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let camera = |name: &str, slot: &str| format!("[[cameras]]\nname = \"{name}\"\nslot = \"{slot}\"\n");
    let group = |text: &str| format!("[[state.dimensions]]\nnames = [\"a\", \"b\"]\n{text}\n");
    let many: Vec<String> = (0..129).map(|i| format!("\"j{i}\"")).collect();
    let many = format!("[[state.dimensions]]\nnames = [{}]\n", many.join(", "));
    let mut wrong = String::new();
    for (text, expected) in [
        ("rate = 3", "FILE:1:1: unknown field `rate`, expected one of `base`, `summary`,".to_owned()),
        ("rate_hz = \"50\"", "FILE:1:11: invalid type: string \"50\", expected f64".into()),
        ("rate_hz = 0", "FILE:1:11: rate_hz is 0, expected more than 0 and at most 100000".into()),
        ("rate_hz = nan", "FILE:1:11: rate_hz is NaN, expected more than 0 and at most 100000".into()),
        ("rate_hz = 1e6", "FILE:1:11: rate_hz is 1000000, expected more than 0".into()),
        ("rate_hz = 1\nrate_hz = 2", "FILE:2:1: duplicate key".into()),
        ("execution_horizon = 0", "FILE:1:21: execution_horizon is 0, expected 1 or more".into()),
        ("execution_horizon = -1", "FILE:1:21: invalid value: integer `-1`, expected usize".into()),
        ("prompt = \"tidy\"", "FILE:1:10: unknown variant `tidy`, expected `clean` or `verbatim`".into()),
        (
            "resize = \"cubic\"",
            "FILE:1:10: unknown variant `cubic`, expected `antialiased` or `bilinear`".into(),
        ),
        ("base = \"ur5\"", "FILE:1:8: \"ur5\" is not built in: expected aloha, aloha_sim, droid,".into()),
        (
            "base = \"aloha\"\nstate.width = 13",
            "profile aloha:27:5: gripper_opening_to_angle: dimension 13 of a vector of 13".into(),
        ),
        ("[state]\nwidth = 0", "FILE:2:9: 0 numbers, expected 1 to 128".into()),
        ("[state]\nwidth = 1000000000000", "FILE:2:9: 1000000000000 numbers, expected 1 to 128".into()),
        (
            "[action]\nmodel_width = 1000000000000\nsteps = [{ clip = { low = 0, high = 1 } }]",
            "FILE:2:15: 1000000000000 numbers, expected 1 to 128".into(),
        ),
        (
            "[state]\nmodel_width = 1000000000000\nsteps = [{ flip = [0] }]",
            "FILE:2:15: 1000000000000 numbers, expected 1 to 128".into(),
        ),
        (
            "[action]\nwidth = 1\nsteps = [{ affine = { dimensions = [0], scale = 1e60 } }]",
            "FILE:3:10: affine: has inf, expected finite numbers".into(),
        ),
        (
            "[state]\nsteps = [\n    { add_state = [6, -1] },\n]",
            "FILE:3:5: add_state: a step of actions".into(),
        ),
        (
            "[state]\nwidth = 7\nsteps = [{ add_state = [6] }]",
            "FILE:3:10: add_state: a step of actions".into(),
        ),
        (
            "[state]\nsteps = [{ select = [1] }]",
            "FILE:2:10: select needs state.width or state.dimensions".into(),
        ),
        (
            "[state]\nwidth = 3\nmodel_width = 2\nsteps = [{ select = [1] }]",
            "FILE:3:15: state.model_width is 2, but the steps give 1 numbers".into(),
        ),
        (
            "[action]\nwidth = 2\nmodel_width = 3\n",
            "FILE:2:9: the robot's action has 2 numbers, but the steps give 3".into(),
        ),
        (
            "state.width = 2\n[action]\nwidth = 3\nsteps = [{ add_state = [3] }]",
            "FILE:4:10: add_state: adds dimension 2 of the state, which has 2".into(),
        ),
        (
            "[action]\nwidth = 2\nsteps = [{ flip = [2] }]",
            "FILE:3:10: flip: dimension 2 of a vector of 2".into(),
        ),
        (
            "[action]\nsteps = [{ flip = [2], clip = { low = 0, high = 1 } }]",
            "FILE:2:10: wanted exactly 1 element, more than 1 element".into(),
        ),
        (
            &group("unit = \"°\""),
            "FILE:1:1: unit \"°\": expected at most 15 characters of ASCII, such as \"rad\"".into(),
        ),
        (
            &group("quantity = \"angle\""),
            "FILE:3:12: unknown variant `angle`, expected one of `unknown`".into(),
        ),
        (&group("position = [1, -1]"), "FILE:1:1: position is 1 to -1, expected two numbers,".into()),
        (&group("velocity = 0"), "FILE:1:1: velocity is 0, expected a number above 0".into()),
        (&group("acceleration = inf"), "FILE:1:1: acceleration is inf, expected a number above 0".into()),
        (&group("[[state.dimensions]]\nnames = [\"b\"]"), "FILE:3:1: dimension \"b\" twice".into()),
        (&group("[state]\nwidth = 3"), "FILE:".into()),
        (
            &group("[state.limits]\nc = { velocity = 1 }"),
            "FILE:4:5: state.limits.c: no such dimension, expected a, b".into(),
        ),
        (
            "state.width = 2\n[state.limits]\n2 = { velocity = 1 }",
            "FILE:3:5: state.limits.2: no such dimension, expected a number below 2".into(),
        ),
        (&many, "FILE:1:1: state.dimensions names 129, expected at most 128".into()),
        (&(camera("a", "s") + &camera("a", "t")), "FILE:4:1: camera \"a\" twice".into()),
        (&(camera("a", "s") + &camera("b", "s")), "FILE:4:1: slot \"s\" is taken by camera \"a\"".into()),
        (&camera("", "s"), "FILE:1:1: \"\" is no name".into()),
    ] {
        let error = parse(text).map_or_else(|error| error, |_| "right".into());
        if !error.starts_with(&expected) {
            wrong += &format!("{text}\n  {error}\n  {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn files_are_told_from_names() {
    let says = |wanted: &str| Profile::find(wanted).unwrap_err().to_string();
    assert!(says("alohaa").starts_with("profile \"alohaa\" is not built in"), "{}", says("alohaa"));
    assert!(says("alohaa").contains("\n  aloha_sim "), "{}", says("alohaa"));
    assert_eq!(says("no/such"), "no/such: no such profile");
    assert_eq!(says("such.toml"), "such.toml: no such profile");
    assert_eq!(says("/"), "/: not a file, expected a profile");
}

proptest! {
    /// Any input is parsed or refused, and its memory use stays small.
    #[test]
    fn any_text_is_a_profile_or_refused(
        which in 0..6usize,
        cut in any::<prop::sample::Index>(),
        length in 0..40usize,
        put in prop::sample::select(vec![
            "", "1e30", "-1", "99999999999", "[", "]", "\"0..99999999\"", "\n", "nan", "inf",
        ]),
    ) {
        let (name, text) = Profile::built_in().nth(which).unwrap();
        let (from, to) = (cut.index(text.len()), (cut.index(text.len()) + length).min(text.len()));
        if let (Some(before), Some(after)) = (text.get(..from), text.get(to..)) {
            let _ = Profile::parse(name, None, &format!("{before}{put}{after}"));
        }
    }
}

//! Weights files that are not what they should be: every error names the tensor, what was found, what was expected.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

mod common;

use std::borrow::Cow;
use std::path::Path;

use safetensors::Dtype;
use slomod::models::rife_v4::Network;
use slomod::models::weights::Weights;

use common::layouts::{ALL, Layout, Tensors, serialize, serialize_as};

const FILE: &str = "some/flownet.safetensors";
const V4_26: Layout = ALL[12];
const V4_6: Layout = ALL[3];

fn load(bytes: Vec<u8>) -> Result<Network, String> {
    let weights = Weights::from_bytes(Path::new(FILE), Cow::Owned(bytes));
    weights.and_then(|weights| Network::read(&weights)).map_err(|error| error.to_string())
}

/// The message for a v4.26 file after `change`; it must hold all of `words`.
fn assert_refused(change: impl FnOnce(&mut Tensors), words: &[&str]) {
    let mut tensors = V4_26.tensors(1);
    change(&mut tensors);
    let message = load(serialize(&tensors, None)).unwrap_err();
    println!("{message}");
    for word in words.iter().chain(&[FILE]) {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let name = "block2.convblock.7.conv.bias";
    assert_refused(|it| drop(it.remove(name)), &[name, "missing", "[8]"]);
    let name = "encode.cnn1.weight";
    assert_refused(|it| drop(it.remove(name)), &[name, "missing"]);
    let name = "block3.lastconv.0.weight";
    assert_refused(|it| drop(it.remove(name)), &[name, "missing", "[6, 52, 4, 4]"]);
}

/// Also where the layout is told by it.
#[test]
fn any_missing_tensor_of_any_layout_is_named() {
    for layout in ALL {
        let whole = layout.tensors(1);
        for name in whole.keys() {
            let mut tensors = whole.clone();
            tensors.remove(name);
            let message = load(serialize(&tensors, None)).unwrap_err();
            assert!(message.contains(&format!("`{name}`")), "{name}: {message}");
            assert!(message.contains("missing"), "{name}: {message}");
        }
    }
}

/// Also where the layout is told by such tensors.
#[test]
fn the_one_tensor_unlike_the_others_is_blamed() {
    let name = "block0.convblock.0.conv.weight";
    let change =
        |it: &mut Tensors| drop(it.insert(name.into(), (vec![12, 6, 3, 3], vec![0.0; 648])));
    assert_refused(change, &[name, "[12, 6, 3, 3]", "[12, 12, 3, 3]"]);
    let name = "block0.lastconv.0.weight";
    let change =
        |it: &mut Tensors| drop(it.insert(name.into(), (vec![12, 24, 4, 4], vec![0.0; 4608])));
    assert_refused(change, &[name, "[12, 24, 4, 4]", "[12, 52, 4, 4]"]);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let name = "block1.conv0.1.0.bias";
    let change = |it: &mut Tensors| drop(it.insert(name.into(), (vec![9], vec![0.0; 9])));
    assert_refused(change, &[name, "[9]", "[8]"]);
    let name = "block1.conv0.0.0.weight";
    let change =
        |it: &mut Tensors| drop(it.insert(name.into(), (vec![4, 12, 3, 3], vec![0.0; 432])));
    assert_refused(change, &[name, "[4, 12, 3, 3]", "[4, 28, 3, 3]"]);
    let name = "block0.convblock.3.beta";
    let change = |it: &mut Tensors| drop(it.insert(name.into(), (vec![12], vec![0.0; 12])));
    assert_refused(change, &[name, "[12]", "[1, 12, 1, 1]"]);
}

#[test]
fn numbers_that_are_none_are_refused_with_their_place() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let name = "block4.conv0.0.0.weight";
        let change = |it: &mut Tensors| it.get_mut(name).unwrap().1[17] = bad;
        assert_refused(change, &[name, "element 17", &bad.to_string(), "finite"]);
    }
}

#[test]
fn an_unknown_tensor_inside_the_network_is_refused() {
    for name in ["block1.extra.weight", "encode.cnn4.weight", "block0.convblock.8.conv.weight"] {
        let change = |it: &mut Tensors| drop(it.insert(name.into(), (vec![1], vec![0.0])));
        assert_refused(change, &[name, "no known RIFE v4 layout"]);
    }
}

#[test]
fn tensors_outside_the_network_are_ignored_with_a_note() {
    let mut tensors = V4_26.tensors(1);
    for name in ["block_tea.conv0.weight", "caltime.0.weight", "teacher.encode.x", "output.flow0"] {
        tensors.insert(name.into(), (vec![1], vec![f32::NAN]));
    }
    let network = load(serialize(&tensors, None)).unwrap();
    assert_eq!(network.notes.len(), 4, "{:?}", network.notes);
    assert!(network.notes[0].contains("block_tea"), "{:?}", network.notes);
}

#[test]
fn other_networks_are_refused() {
    let none = Tensors::from([("x".to_owned(), (vec![1], vec![1.0]))]);
    assert!(load(serialize(&none, None)).unwrap_err().contains("4 or 5"));
    let three = Layout { widths: &[8, 8, 8], ..V4_6 };
    assert!(load(three.file(1)).unwrap_err().contains("3 blocks"));
    let odd_end = Layout { end: 28, ..V4_6 };
    let message = load(odd_end.file(1)).unwrap_err();
    assert!(message.contains("lastconv") && message.contains("28"), "{message}");
}

#[test]
fn what_no_network_can_be_made_of_is_refused_by_name() {
    let odd = Layout { widths: &[9, 8, 8, 8], ..ALL[8] };
    let message = load(odd.file(1)).unwrap_err();
    assert!(message.contains("block0") && message.contains("multiple"), "{message}");
    let huge = |it: &mut Tensors| {
        for name in ["block1.convblock.0.beta", "block1.convblock.0.conv.weight"] {
            it.get_mut(name).unwrap().1.fill(1e30);
        }
    };
    assert_refused(huge, &["block1.convblock.0.beta", "too large"]);
    let mut tensors = V4_26.tensors(1);
    tensors.insert("block18446744073709551615.x".into(), (vec![1], vec![1.0]));
    assert_eq!(load(serialize(&tensors, None)).unwrap().notes.len(), 1, "no block of that number");
}

#[test]
fn half_precision_files_give_the_rounded_weights() {
    let tensors = V4_6.tensors(2);
    let whole = load(serialize(&tensors, None)).unwrap();
    let f16 = serialize_as(&tensors, None, Dtype::F16, |value| {
        half::f16::from_f32(value).to_le_bytes().to_vec()
    });
    let bf16 = serialize_as(&tensors, None, Dtype::BF16, |value| {
        half::bf16::from_f32(value).to_le_bytes().to_vec()
    });
    let bias = |network: &Network| network.blocks[1].conv0[0].bias.clone();
    let exact = bias(&whole);
    let rounded: Vec<f32> = exact.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect();
    assert_eq!(bias(&load(f16).unwrap()), rounded);
    let rounded: Vec<f32> = exact.iter().map(|&v| half::bf16::from_f32(v).to_f32()).collect();
    assert_eq!(bias(&load(bf16).unwrap()), rounded);
}

#[test]
fn other_number_types_are_refused_by_name() {
    let bytes = serialize_as(&V4_6.tensors(1), None, Dtype::F64, |value| {
        f64::from(value).to_le_bytes().to_vec()
    });
    let message = load(bytes).unwrap_err();
    assert!(message.contains("F64") && message.contains("F32, F16 or BF16"), "{message}");
}

#[test]
fn names_of_parallel_training_are_the_same_network() {
    let tensors = V4_6.tensors(3);
    let plain = load(serialize(&tensors, None)).unwrap();
    let prefixed: Tensors =
        tensors.into_iter().map(|(name, it)| (format!("module.{name}"), it)).collect();
    assert_eq!(load(serialize(&prefixed, None)).unwrap(), plain);
}

#[test]
fn cut_files_are_refused() {
    let whole = V4_6.file(1);
    for end in [0, 1, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        assert!(load(whole[..end].to_vec()).unwrap_err().contains("safetensors"), "{end}");
    }
}

#[test]
fn grouped_convolutions_are_widened_with_zeros() {
    let network = load(ALL[8].file(1)).unwrap();
    let conv = &network.blocks[0].convblock[0];
    let (c, tensors) = (conv.in_channels, ALL[8].tensors(1));
    let (_, narrow) = &tensors["block0.convblock.0.conv.weight"];
    let (_, beta) = &tensors["block0.convblock.0.beta"];
    for out in 0..c {
        for input in 0..c {
            let same_group = out / (c / 2) == input / (c / 2);
            let expected = if same_group {
                narrow[(out * c / 2 + input % (c / 2)) * 9] * beta[out]
            } else {
                0.0
            };
            assert_eq!(conv.weight[(out * c + input) * 9], expected, "{out} {input}");
        }
    }
}

/// models/README.md says what is shipped.
#[test]
fn the_shipped_weights_are_those_of_their_card() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let path = folder.join("starter.safetensors");
    let weights = Weights::open(&path).unwrap();
    let card = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(
        card.contains(&format!("| SHA-256 | `{}` |", weights.sha256())),
        "the card has another"
    );
    assert!(path.metadata().unwrap().len() <= 4_000_000, "more than 4 MB");
    assert_eq!(Network::read(&weights).unwrap().notes, Vec::<String>::new());
    for (key, value) in [
        ("slomod.layout", "RIFE v4.26"),
        ("slomod.widths", "96,64,48,32,16"),
        ("slomod.license", "MIT"),
    ] {
        assert_eq!(weights.metadata(key), Some(value), "{key}");
    }
    for key in ["slomod.step", "slomod.steps_before", "slomod.seed", "slomod.data"] {
        assert!(weights.metadata(key).is_some_and(|it| !it.is_empty()), "{key}");
    }
}

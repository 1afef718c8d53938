//! A card's telemetry from sysfs as tt-kmd fills it, read without opening the card.
//!
//! Attributes are tt-kmd's (its `docs/sysfs-attributes.md`), units those of the kernel's hwmon interface.
//! The board and its firmware decide which attributes exist; on Wormhole they appear up to two minutes
//! after the device node.

use std::path::Path;

use crate::machine::{Root, Telemetry};

const CLASS: &str = "sys/class/tenstorrent";
const RESET: &str = "tt-smi -r";

/// Telemetry of all cards, by node number.
pub fn read_all(root: &Root) -> Vec<Telemetry> {
    let entries = std::fs::read_dir(root.path(CLASS)).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("tenstorrent!")?.parse().ok();
    let mut nodes: Vec<u32> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    nodes.sort_unstable();
    nodes.into_iter().map(|node| read(root, node)).collect()
}

/// Telemetry of one card.
pub fn read(root: &Root, node: u32) -> Telemetry {
    let card = Path::new(CLASS).join(format!("tenstorrent!{node}"));
    let text = |name: &str| root.text(card.join(name)).filter(|text| !text.is_empty());
    let number = |name: &str| text(name)?.parse().ok();
    let sensors = std::fs::read_dir(root.path(card.join("device/hwmon"))).into_iter().flatten().flatten();
    let sensors = sensors.map(|entry| card.join("device/hwmon").join(entry.file_name())).min();
    let sensor = |name: &str| root.text(sensors.as_ref()?.join(name))?.parse::<f64>().ok();
    Telemetry {
        node,
        card_type: text("tt_card_type"),
        serial: text("tt_serial"),
        firmware: text("tt_fw_bundle_ver"),
        aiclk_mhz: number("tt_aiclk"),
        heartbeat: number("tt_heartbeat"),
        thermal_trips: number("tt_therm_trip_count"),
        temperature_c: sensor("temp1_input").map(|milli| milli / 1e3),
        temperature_limit_c: sensor("temp1_max").map(|milli| milli / 1e3),
        power_w: sensor("power1_input").map(|micro| micro / 1e6),
        current_a: sensor("curr1_input").map(|milli| milli / 1e3),
        fan_rpm: sensor("fan1_input").map(|rpm| rpm as u64),
        reset: Some(RESET),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_a_card_says_is_read_in_units_and_what_it_does_not_is_none() {
        let directory = std::env::temp_dir().join(format!("pi0rt-telemetry-{}", std::process::id()));
        let root = Root::at(&directory);
        assert_eq!(read_all(&root), []);
        let file = |path: &str, text: &str| {
            let path = directory.join(CLASS).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("tenstorrent!0/tt_card_type", "n150\n");
        file("tenstorrent!0/tt_aiclk", "1000\n");
        file("tenstorrent!0/tt_heartbeat", "42\n");
        file("tenstorrent!0/tt_serial", "\n");
        file("tenstorrent!0/device/hwmon/hwmon3/temp1_input", "51500\n");
        file("tenstorrent!0/device/hwmon/hwmon3/temp1_max", "75000\n");
        file("tenstorrent!0/device/hwmon/hwmon3/power1_input", "27000000\n");
        file("tenstorrent!0/device/hwmon/hwmon3/curr1_input", "broken\n");
        file("tenstorrent!10/tt_therm_trip_count", "2\n");
        file("something", "");
        let read = read_all(&root);
        let expected = Telemetry {
            card_type: Some("n150".into()),
            aiclk_mhz: Some(1000),
            heartbeat: Some(42),
            temperature_c: Some(51.5),
            temperature_limit_c: Some(75.0),
            power_w: Some(27.0),
            reset: Some(RESET),
            ..Telemetry::default()
        };
        let silent =
            Telemetry { node: 10, thermal_trips: Some(2), reset: Some(RESET), ..Telemetry::default() };
        assert_eq!(read, [expected, silent]);
        assert_eq!(read[0].line(), "n150, 52 °C, 27 W, 1000 MHz");
        assert_eq!(read[1].line(), "unknown board, 2 shutdowns from heat");
        fs::remove_dir_all(&directory).unwrap();
    }
}

//! A card's telemetry, readable while other processes use it.

/// Telemetry of one card; `None` for values it doesn't report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// Number of its device node.
    pub node: u32,
    /// Card type, such as `n150`.
    pub card_type: Option<String>,
    /// Serial number, hexadecimal.
    pub serial: Option<String>,
    /// Version of the firmware bundle.
    pub firmware: Option<String>,
    /// Clock of its cores, MHz.
    pub aiclk_mhz: Option<u64>,
    /// A counter that the firmware increments while it is alive.
    pub heartbeat: Option<u64>,
    /// Thermal shutdowns since power-on.
    pub thermal_trips: Option<u64>,
    /// Chip temperature, degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Temperature at which the chip is throttled, degrees Celsius.
    pub temperature_limit_c: Option<f64>,
    /// Power, watts.
    pub power_w: Option<f64>,
    /// Current, amperes.
    pub current_a: Option<f64>,
    /// Fan speed, revolutions per minute.
    pub fan_rpm: Option<u64>,
    /// Command that resets the card.
    pub reset: Option<&'static str>,
}

impl Telemetry {
    /// One line with all reported values.
    pub fn line(&self) -> String {
        let mut parts = vec![self.card_type.clone().unwrap_or_else(|| "unknown board".into())];
        let mut add = |text: Option<String>| parts.extend(text);
        add(self.temperature_c.map(|celsius| format!("{celsius:.0} °C")));
        add(self.power_w.map(|watts| format!("{watts:.0} W")));
        add(self.aiclk_mhz.map(|mhz| format!("{mhz} MHz")));
        add(self.fan_rpm.map(|rpm| format!("fan {rpm} rpm")));
        add(self.firmware.as_ref().map(|version| format!("firmware {version}")));
        add(self
            .thermal_trips
            .filter(|trips| *trips > 0)
            .map(|trips| format!("{trips} shutdowns from heat")));
        parts.join(", ")
    }
}

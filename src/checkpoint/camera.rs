//! The cameras of a policy.

use super::normalization::Normalization;

/// A camera, by the robot's name and the model's.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// The robot's name, which clients use and reports show, such as `front`.
    pub name: String,
    /// Name of the model's input, such as `base_0_rgb`; the same as `name` unless the checkpoint renames it.
    pub key: String,
    /// True if every observation in training had this camera.
    pub required: bool,
    /// Normalization of its images, three channels of 0 to 1, before they are resized.
    pub normalization: Option<Normalization>,
}

impl Camera {
    /// A required camera with one name for robot and model.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { key: name.clone(), name, required: true, normalization: None }
    }

    /// Index of the camera named `name` by a client: the robot's name or, if no camera has it, the model's.
    pub fn find(cameras: &[Self], name: &str) -> Option<usize> {
        let by_name = cameras.iter().position(|camera| camera.name == name);
        by_name.or_else(|| cameras.iter().position(|camera| camera.key == name))
    }

    /// The robot's names, for messages.
    pub fn names(cameras: &[Self]) -> String {
        cameras.iter().map(|camera| camera.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Camera {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name == self.key {
            true => f.write_str(&self.name),
            false => write!(f, "{} -> {}", self.name, self.key),
        }
    }
}

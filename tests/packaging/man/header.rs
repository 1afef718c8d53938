//! Parses the declarations and comments of `include/pi0rt.h`.

/// A function and its comment.
pub struct Function {
    pub name: String,
    pub result: String,
    /// Type and name of each parameter.
    pub parameters: Vec<String>,
    /// The comment's paragraphs, without line breaks.
    pub doc: Vec<String>,
}

/// A struct or an enum.
pub struct Type {
    pub name: String,
    /// The declaration as written in the header.
    pub text: String,
}

/// The whole header.
pub struct Header {
    /// The lines of the comment at its start.
    pub about: Vec<String>,
    pub functions: Vec<Function>,
    pub types: Vec<Type>,
}

impl Header {
    pub fn parse(text: &str) -> Header {
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.iter().position(|line| *line == " */").expect("a comment at the start");
        let about = lines[1..end].iter().map(|line| bare(line)).collect();
        let (mut functions, mut types) = (Vec::new(), Vec::new());
        let mut i = end + 1;
        let mut doc = Vec::new();
        while i < lines.len() {
            let line = lines[i];
            let name = |head: &str| line.strip_prefix(head)?.strip_suffix(" {").map(str::to_owned);
            if line.starts_with("/**") {
                let end = (i..).find(|i| lines[*i].ends_with("*/")).expect("an end of the comment");
                doc = paragraphs(&lines[i + 1..end.max(i + 1)]);
                i = end;
            } else if let Some(name) = name("typedef struct ").or(name("typedef enum ")) {
                let end = (i..).find(|i| lines[*i].starts_with('}')).expect("an end of the type");
                types.push(Type { name, text: lines[i..=end].join("\n") });
                i = end;
            } else if line.contains('(') && !line.starts_with(['#', ' ', '}']) {
                let end = (i..).find(|i| lines[*i].ends_with(");")).expect("an end of the declaration");
                functions.push(declaration(&lines[i..=end].join(" "), std::mem::take(&mut doc)));
                i = end;
            }
            i += 1;
        }
        Header { about, functions, types }
    }

    /// The statuses' names (without `PI0RT_STATUS_`) and comments.
    pub fn statuses(&self) -> impl Iterator<Item = (String, String)> {
        let of = self.types.iter().find(|of| of.name == "pi0rt_status").expect("pi0rt_status");
        let mut comment = String::new();
        let mut found = Vec::new();
        for line in of.text.lines() {
            let line = line.trim();
            if let Some(rest) = line.strip_prefix("PI0RT_STATUS_") {
                let (name, _) = rest.split_once(" = ").expect("a number");
                found.push((name.to_owned(), std::mem::take(&mut comment)));
            } else if line.starts_with(['/', '*']) {
                let words = line.trim_start_matches(['/', '*']).trim_end_matches("*/").trim();
                comment = format!("{comment} {words}").trim().to_owned();
            }
        }
        found.into_iter()
    }
}

fn bare(line: &str) -> String {
    let line = line.trim_start();
    line.strip_prefix("* ").or(line.strip_prefix('*')).unwrap_or(line).to_owned()
}

fn paragraphs(lines: &[&str]) -> Vec<String> {
    let bare: Vec<_> = lines.iter().map(|line| bare(line)).collect();
    bare.split(String::is_empty).map(|lines| lines.join(" ")).filter(|text| !text.is_empty()).collect()
}

fn declaration(text: &str, doc: Vec<String>) -> Function {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (head, parameters) = words.trim_end_matches(");").split_once('(').expect("parameters");
    let name = head.rsplit([' ', '*']).next().expect("a name");
    let result = head.strip_suffix(name).expect("a type").trim();
    Function {
        name: name.into(),
        result: result.into(),
        parameters: parameters.split(", ").map(str::to_owned).collect(),
        doc,
    }
}

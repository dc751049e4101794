//! The table as a picture: for each line a bar as long as our rate is, in parts of each other server's.

use crate::report::Row;
use std::fmt::Write;

const LABEL_WIDTH: f64 = 210.0;
/// Pixels that a ratio of one takes.
const UNIT: f64 = 110.0;
const RATIO_MAX: f64 = 5.0;
const BAR_HEIGHT: f64 = 14.0;
const ROW_GAP: f64 = 12.0;
const COLOURS: [&str; 3] = ["#2f6f9f", "#c8743a", "#6a9a5b"];

/// An SVG picture, readable on a light and a dark page.
pub fn svg(rows: &[Row]) -> String {
    let others = rows.first().map_or(0, |row| row.samples.len().saturating_sub(1));
    let row_height = BAR_HEIGHT * others as f64 + ROW_GAP;
    let (width, height) = (LABEL_WIDTH + UNIT * RATIO_MAX + 60.0, row_height * rows.len() as f64 + 60.0);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let names = rows.first().map_or(&[][..], Row::contenders);
    for (number, name) in names.iter().enumerate().skip(1) {
        let (x, colour) = (LABEL_WIDTH + 230.0 * (number - 1) as f64, COLOURS[number % COLOURS.len()]);
        let _ = writeln!(text, "<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        let _ = writeln!(text, "<text x=\"{}\" y=\"20\">repd's rate / {}</text>", x + 18.0, escaped(name));
    }
    for (number, row) in rows.iter().enumerate() {
        draw_row(&mut text, row, 34.0 + row_height * number as f64);
    }
    let (x, bottom) = (LABEL_WIDTH + UNIT, height - 22.0);
    let _ = writeln!(text, "<line x1=\"{x}\" y1=\"30\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#888\"/>");
    let _ = writeln!(text, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">as fast</text>", bottom + 14.0);
    text + "</svg>\n"
}

fn draw_row(text: &mut String, row: &Row, top: f64) {
    let others = row.samples.len().saturating_sub(1) as f64;
    let middle = top + BAR_HEIGHT * others / 2.0 + 4.0;
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
        LABEL_WIDTH - 8.0,
        escaped(row.name)
    );
    for contender in 1..row.samples.len() {
        let ratio = row.ratio(contender);
        let length = UNIT * if ratio.is_finite() { ratio.clamp(0.0, RATIO_MAX) } else { 0.0 };
        let (y, colour) = (top + BAR_HEIGHT * (contender - 1) as f64, COLOURS[contender % COLOURS.len()]);
        let height = BAR_HEIGHT - 2.0;
        let _ = writeln!(
            text,
            "<rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
        );
        let _ = writeln!(text, "<text x=\"{:.1}\" y=\"{}\">{ratio:.2}</text>", LABEL_WIDTH + length + 4.0, y + 11.0);
    }
    if let Some(bar) = row.bar {
        let x = LABEL_WIDTH + UNIT * bar;
        let _ = writeln!(
            text,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{}\" stroke=\"#b00\" stroke-width=\"2\"/>",
            top - 2.0,
            top + BAR_HEIGHT
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use crate::fio::Sample;
    use crate::report::Row;

    #[test]
    fn a_line_is_as_long_as_its_ratio() {
        let sample = |rate: f64| Sample { bytes_per_s: rate, ..Sample::default() };
        let mut row = Row::new("writes & reads", &["ours", "theirs"], Some(0.5));
        row.samples = vec![vec![sample(30.0)], vec![sample(20.0)]];
        let svg = super::svg(&[row]);
        assert!(svg.contains("width=\"165.0\"") && svg.contains(">1.50<"), "{svg}");
        assert!(svg.contains("writes &amp; reads") && svg.contains("#b00"), "{svg}");
    }
}

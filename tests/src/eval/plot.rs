//! Plots as plain SVG: lines, panels of lines, and a table of colours with its numbers.
//!
//! Written here and not taken from a library: three shapes of plot, deterministic bytes, and places of
//! labels and legend that cannot overlap because they are laid out by number of rows.

use std::fmt::Write as _;

/// Colours that stay apart for most kinds of colour blindness (Okabe and Ito), ours first.
pub(crate) const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c7b00", "#777777"];
const INK: &str = "#222222";
const GRID: &str = "#dddddd";

/// One line: x and y within the axes' ranges.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot against the hours of a day.
#[derive(Debug, Clone)]
pub(crate) struct DayPlot {
    pub(crate) title: String,
    pub(crate) vertical: &'static str,
    /// The highest value of the vertical axis.
    pub(crate) top: f64,
    pub(crate) lines: Vec<Line>,
}

struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Frame {
    fn x(&self, hour: f64) -> f64 {
        self.left + self.width * hour / 24.0
    }

    fn y(&self, value: f64, top: f64) -> f64 {
        self.top + self.height * (1.0 - (value / top).clamp(0.0, 1.0))
    }
}

pub(crate) fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\" \
         font-size=\"13\" fill=\"{INK}\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    )
}

pub(crate) fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ =
        writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>");
}

pub(crate) fn heading(svg: &mut String, x: f64, y: f64, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"16\" font-weight=\"bold\">{words}</text>"
    );
}

pub(crate) fn vertical_text(svg: &mut String, x: f64, y: f64, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 {x:.1} {y:.1})\">{words}</text>"
    );
}

pub(crate) fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn axes(svg: &mut String, frame: &Frame, top: f64, percent: bool) {
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let y = frame.y(value, top);
        rule(svg, (frame.left, y), (frame.left + frame.width, y), GRID, 1.0);
        let label = if percent { format!("{:.0} %", 100.0 * value) } else { format!("{value:.2}") };
        text(svg, frame.left - 6.0, y + 4.0, "end", &label);
    }
    for hour in (0..=24).step_by(4) {
        let x = frame.x(f64::from(hour));
        rule(svg, (x, frame.top), (x, frame.top + frame.height), GRID, 1.0);
        text(svg, x, frame.top + frame.height + 17.0, "middle", &format!("{hour:02}:00"));
    }
}

fn draw(svg: &mut String, frame: &Frame, top: f64, line: &Line) {
    let mut path = String::new();
    for (x, y) in &line.points {
        let _ = write!(path, "{:.1},{:.1} ", frame.x(*x), frame.y(*y, top));
    }
    let dash = if line.dashed { " stroke-dasharray=\"7 4\"" } else { "" };
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{dash}/>",
        path.trim_end(),
        line.colour
    );
}

/// Lines in one frame, the legend beside it.
pub(crate) fn lines(plot: &DayPlot) -> String {
    let (width, height) = (900.0, 460.0);
    let frame = Frame { left: 76.0, top: 48.0, width: 620.0, height: 340.0 };
    let mut svg = open(width, height);
    heading(&mut svg, 16.0, 28.0, &plot.title);
    axes(&mut svg, &frame, plot.top, true);
    for line in plot.lines.iter().rev() {
        draw(&mut svg, &frame, plot.top, line);
    }
    for (row, line) in plot.lines.iter().enumerate() {
        let y = frame.top + 14.0 + 24.0 * row as f64;
        let key = Line { points: Vec::new(), ..line.clone() };
        let dash = if key.dashed { " stroke-dasharray=\"7 4\"" } else { "" };
        let _ = writeln!(
            svg,
            "<line x1=\"716\" y1=\"{y:.1}\" x2=\"746\" y2=\"{y:.1}\" stroke=\"{}\" \
             stroke-width=\"3\"{dash}/>",
            key.colour
        );
        text(&mut svg, 754.0, y + 4.0, "start", &line.name);
    }
    text(&mut svg, frame.left + frame.width / 2.0, height - 16.0, "middle", "hour of the day");
    vertical_text(&mut svg, 20.0, frame.top + frame.height / 2.0, plot.vertical);
    svg + "</svg>\n"
}

/// A panel for each line, all with the same axes.
pub(crate) fn panels(plot: &DayPlot) -> String {
    let columns = 2;
    let rows = plot.lines.len().div_ceil(columns);
    let (width, row_height) = (900.0, 190.0);
    let height = 64.0 + row_height * rows as f64;
    let mut svg = open(width, height);
    heading(&mut svg, 16.0, 28.0, &plot.title);
    for (index, line) in plot.lines.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        let frame = Frame {
            left: 76.0 + 430.0 * column as f64,
            top: 66.0 + row_height * row as f64,
            width: 360.0,
            height: 130.0,
        };
        axes(&mut svg, &frame, plot.top, false);
        draw(&mut svg, &frame, plot.top, line);
        text(&mut svg, frame.left + 4.0, frame.top - 7.0, "start", &line.name);
        if column == 0 {
            vertical_text(&mut svg, 22.0, frame.top + frame.height / 2.0, plot.vertical);
        }
    }
    text(&mut svg, width / 2.0, height - 10.0, "middle", "hour of the day");
    svg + "</svg>\n"
}

/// A table whose cells are coloured by their value: `worst` is red, `best` is white.
pub(crate) struct Matrix<'a> {
    pub(crate) title: &'a str,
    pub(crate) columns: Vec<&'a str>,
    pub(crate) rows: Vec<(&'a str, Vec<f64>)>,
    pub(crate) worst: f64,
    pub(crate) best: f64,
    /// How a value is written.
    pub(crate) write: fn(f64) -> String,
}

pub(crate) fn matrix(matrix: &Matrix<'_>) -> String {
    let (left, top, cell, row_height) = (190.0, 76.0, 94.0, 28.0);
    let width = left + cell * matrix.columns.len() as f64 + 16.0;
    let height = top + row_height * matrix.rows.len() as f64 + 20.0;
    let mut svg = open(width, height);
    heading(&mut svg, 16.0, 28.0, matrix.title);
    for (index, column) in matrix.columns.iter().enumerate() {
        let middle = left + cell * (index as f64 + 0.5);
        // Two lines where the name has two words: "budget / forecast" is wider than a column.
        let (first, second) = column.rsplit_once(' ').unwrap_or(("", column));
        text(&mut svg, middle, top - 24.0, "middle", first);
        text(&mut svg, middle, top - 8.0, "middle", second);
    }
    for (row, (name, values)) in matrix.rows.iter().enumerate() {
        let y = top + row_height * row as f64;
        text(&mut svg, left - 8.0, y + 19.0, "end", name);
        for (column, value) in values.iter().enumerate() {
            let bad = ((value - matrix.best) / (matrix.worst - matrix.best)).clamp(0.0, 1.0);
            let fade = |full: f64| (255.0 + (full - 255.0) * bad).round();
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
                 fill=\"rgb({},{},{})\" stroke=\"{GRID}\"/>",
                left + cell * column as f64,
                cell - 2.0,
                row_height - 2.0,
                fade(232.0),
                fade(140.0),
                fade(110.0),
            );
            let middle = left + cell * (column as f64 + 0.5) - 1.0;
            text(&mut svg, middle, y + 18.0, "middle", &(matrix.write)(*value));
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_well_formed_and_names_its_lines() {
        let line = |name: &str| Line {
            name: name.into(),
            colour: COLOURS[0],
            dashed: false,
            points: vec![(0.0, 0.0), (24.0, 1.0)],
        };
        let plot = DayPlot {
            title: "A & B".into(),
            vertical: "share",
            top: 1.0,
            lines: vec![line("ours"), line("theirs")],
        };
        for svg in [lines(&plot), panels(&plot)] {
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(svg.contains("A &amp; B") && svg.contains(">theirs<"));
            assert_eq!(svg.matches("<polyline").count(), 2);
        }
    }
}

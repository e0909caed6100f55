//! Pages on which text, lines and boxes are put, and the way they become a PDF.
//!
//! What is put down is remembered and drawn at the end, because a page number says how many pages there are.
//! Coordinates are points from the upper left corner; `y` of a text is its base line.

use krilla::{
    Document,
    color::luma,
    error::KrillaError,
    geom::{PathBuilder, Point, Rect},
    metadata::{DateTime, Metadata},
    page::PageSettings,
    paint::{Fill, Stroke},
    surface::Surface,
    text::TextDirection,
};

use super::fonts::{self, Weight};

/// The distance of base lines, in font sizes.
const LEADING: f32 = 1.22;
/// The long side of A4 in points.
const LONG: f32 = 841.89;
/// The short side of A4 in points.
const SHORT: f32 = 595.28;
/// The lowest place of a text above the page number.
const BOTTOM: f32 = 42.0;

/// Where a text stands between two borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Center,
    Right,
}

/// How letters look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Type {
    pub(super) size: f32,
    pub(super) weight: Weight,
    pub(super) align: Align,
}

impl Type {
    pub(super) const fn new(size: f32) -> Type {
        Type { size, weight: Weight::Regular, align: Align::Left }
    }

    pub(super) const fn bold(self) -> Type {
        Type { weight: Weight::Bold, ..self }
    }

    pub(super) const fn center(self) -> Type {
        Type { align: Align::Center, ..self }
    }

    pub(super) const fn right(self) -> Type {
        Type { align: Align::Right, ..self }
    }

    /// The height of so many lines.
    pub(super) fn height(self, lines: usize) -> f32 {
        let lines = u16::try_from(lines).unwrap_or(u16::MAX);
        self.size * LEADING * f32::from(lines)
    }

    /// The lines of a text in a column.
    pub(super) fn wrap(self, text: &str, width: f32) -> Vec<String> {
        fonts::wrap(text, self.weight, self.size, width)
    }
}

enum Mark {
    Text { x: f32, y: f32, face: Type, text: String },
    Line { from: (f32, f32), to: (f32, f32), width: f32 },
    Squares { at: (f32, f32), side: f32, rows: Vec<Vec<bool>> },
}

/// Which way the paper lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lying {
    Portrait,
    Landscape,
}

/// A4 pages with margins, and the place that is reached on the last of them.
pub(super) struct Paper {
    size: (f32, f32),
    pub(super) left: f32,
    pub(super) right: f32,
    top: f32,
    pub(super) y: f32,
    pages: Vec<Vec<Mark>>,
    /// What stands beside the page number.
    name: String,
}

impl Paper {
    pub(super) fn new(lying: Lying, name: String) -> Paper {
        let (size, left, right, top) = match lying {
            Lying::Portrait => ((SHORT, LONG), 48.0, SHORT - 34.0, 36.0),
            Lying::Landscape => ((LONG, SHORT), 30.0, LONG - 30.0, 30.0),
        };
        Paper { size, left, right, top, y: top, pages: vec![Vec::new()], name }
    }

    pub(super) fn width(&self) -> f32 {
        self.right - self.left
    }

    /// What is left of the page.
    pub(super) fn room(&self) -> f32 {
        self.size.1 - BOTTOM - self.y
    }

    pub(super) fn turn(&mut self) {
        self.pages.push(Vec::new());
        self.y = self.top;
    }

    /// Turns the page when less than this is left of it.
    pub(super) fn keep(&mut self, height: f32) {
        if self.room() < height {
            self.turn();
        }
    }

    pub(super) fn skip(&mut self, height: f32) {
        self.y += height;
    }

    fn mark(&mut self, mark: Mark) {
        if let Some(page) = self.pages.last_mut() {
            page.push(mark);
        }
    }

    /// One line of text between two borders, its top at `top`.
    pub(super) fn put(&mut self, (left, right): (f32, f32), top: f32, face: Type, text: &str) {
        if text.is_empty() {
            return;
        }
        // Names come from outside; what is no letter is a space.
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let wide = || fonts::width(&text, face.weight, face.size);
        let x = match face.align {
            Align::Left => left,
            Align::Center => left + (right - left - wide()) / 2.0,
            Align::Right => right - wide(),
        };
        self.mark(Mark::Text { x, y: top + face.size, face, text });
    }

    /// A text in a column, wrapped; gives its height.
    pub(super) fn column(
        &mut self,
        (left, right): (f32, f32),
        top: f32,
        face: Type,
        text: &str,
    ) -> f32 {
        let lines = face.wrap(text, right - left);
        for (at, line) in (0_u16..).zip(&lines) {
            self.put((left, right), top + face.size * LEADING * f32::from(at), face, line);
        }
        face.height(lines.len())
    }

    /// A text over the whole width at the place reached, which moves below it.
    pub(super) fn paragraph(&mut self, face: Type, text: &str) {
        for line in face.wrap(text, self.width()) {
            self.keep(face.height(1));
            self.put((self.left, self.right), self.y, face, &line);
            self.y += face.height(1);
        }
    }

    /// A label and what it is about, beside it.
    pub(super) fn labelled(&mut self, label_width: f32, face: Type, label: &str, text: &str) {
        let lines = face.wrap(text, self.width() - label_width).len();
        self.keep(face.height(lines));
        let plain = Type { weight: Weight::Regular, ..face };
        let label_height =
            self.column((self.left, self.left + label_width - 4.0), self.y, plain, label);
        let height = self.column((self.left + label_width, self.right), self.y, face, text);
        self.y += height.max(label_height);
    }

    pub(super) fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32) {
        self.mark(Mark::Line { from, to, width });
    }

    /// A line over the whole width.
    pub(super) fn rule(&mut self, width: f32) {
        self.line((self.left, self.y), (self.right, self.y), width);
    }

    pub(super) fn frame(&mut self, (left, top): (f32, f32), (right, bottom): (f32, f32)) {
        for (from, to) in [
            ((left, top), (right, top)),
            ((left, bottom), (right, bottom)),
            ((left, top), (left, bottom)),
            ((right, top), (right, bottom)),
        ] {
            self.line(from, to, HAIR);
        }
    }

    /// The dark squares of a code.
    pub(super) fn squares(&mut self, at: (f32, f32), side: f32, rows: Vec<Vec<bool>>) {
        self.mark(Mark::Squares { at, side, rows });
    }

    /// The bytes of the PDF: the same for the same marks.
    pub(super) fn finish(mut self, about: About<'_>) -> Result<Vec<u8>, KrillaError> {
        self.number_pages();
        let mut document = Document::new();
        let (year, month, day) = about.day;
        document.set_metadata(
            Metadata::new()
                .title(self.name.clone())
                .authors(vec![about.author.to_owned()])
                .language("ru".to_owned())
                .creator("adspend-billing".to_owned())
                .creation_date(DateTime::new(year).month(month).day(day)),
        );
        for marks in &self.pages {
            let settings = PageSettings::from_wh(self.size.0, self.size.1);
            let mut page = document.start_page_with(settings.expect("A4 has a size"));
            let mut surface = page.surface();
            marks.iter().for_each(|mark| draw(&mut surface, mark));
            surface.finish();
            page.finish();
        }
        document.finish()
    }

    fn number_pages(&mut self) {
        let of = self.pages.len();
        let (left, right, y) = (self.left, self.right, self.size.1 - BOTTOM + 14.0);
        let face = Type::new(7.0);
        for at in 0..of {
            let text = format!("{} · страница {} из {of}", self.name, at + 1);
            let x = right - fonts::width(&text, face.weight, face.size);
            if let Some(page) = self.pages.get_mut(at) {
                page.push(Mark::Line { from: (left, y - 4.0), to: (right, y - 4.0), width: 0.25 });
                page.push(Mark::Text { x, y: y + face.size, face, text });
            }
        }
    }
}

/// The width of a fine line.
pub(super) const HAIR: f32 = 0.5;

/// What the file says of itself.
pub(super) struct About<'a> {
    pub(super) author: &'a str,
    /// Year, month and day of the document.
    pub(super) day: (u16, u8, u8),
}

fn draw(surface: &mut Surface<'_>, mark: &Mark) {
    let black = luma::Color::black();
    match mark {
        Mark::Text { x, y, face, text } => {
            surface.set_fill(Some(Fill { paint: black.into(), ..Fill::default() }));
            surface.set_stroke(None);
            let at = Point::from_xy(*x, *y);
            let font = fonts::font(face.weight);
            surface.draw_text(at, font, face.size, text, false, TextDirection::Auto);
        }
        Mark::Line { from, to, width } => {
            surface.set_fill(None);
            let stroke = Stroke { paint: black.into(), width: *width, ..Stroke::default() };
            surface.set_stroke(Some(stroke));
            let mut path = PathBuilder::new();
            path.move_to(from.0, from.1);
            path.line_to(to.0, to.1);
            if let Some(path) = path.finish() {
                surface.draw_path(&path);
            }
        }
        Mark::Squares { at, side, rows } => {
            surface.set_fill(Some(Fill { paint: black.into(), ..Fill::default() }));
            surface.set_stroke(None);
            let count = u16::try_from(rows.len()).unwrap_or(u16::MAX);
            let each = side / f32::from(count.max(1));
            let mut path = PathBuilder::new();
            for (row, squares) in (0_u16..).zip(rows) {
                let mut column = 0_u16;
                // Neighbours in a row are one bar, so that no seams show between them.
                for run in squares.chunk_by(|a, b| a == b) {
                    let length = u16::try_from(run.len()).unwrap_or(u16::MAX);
                    let (x, y) = (at.0 + each * f32::from(column), at.1 + each * f32::from(row));
                    column = column.saturating_add(length);
                    if run.first() != Some(&true) {
                        continue;
                    }
                    let bar = Rect::from_xywh(x, y, each * f32::from(length), each);
                    if let Some(bar) = bar {
                        path.push_rect(bar);
                    }
                }
            }
            if let Some(path) = path.finish() {
                surface.draw_path(&path);
            }
        }
    }
}

"""What a page owes to who does not see it, to who has no mouse, and to who sees little: checks that run in the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

STRUCTURE = """() => {
  const faults = [], say = (text, node) => faults.push(text + ': ' + node.outerHTML.slice(0, 120));
  const all = (what) => [...document.querySelectorAll(what)];
  const named = (node) => (node.getAttribute('aria-label')
    || (node.getAttribute('aria-labelledby') || '').split(' ')
      .map((id) => document.getElementById(id)?.textContent).join(' ')
    || node.textContent).trim();
  if (!document.documentElement.lang) faults.push('no language');
  if (!document.title.trim()) faults.push('no title');
  for (const what of ['header', 'nav', 'main', 'footer', 'h1'])
    if (all('body > ' + what + ', header > ' + what).length !== 1) faults.push('not one ' + what);
  let level = 0;
  for (const heading of all('h1, h2, h3, h4, h5, h6')) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) say('heading after level ' + level, heading);
    if (!heading.textContent.trim()) say('empty heading', heading);
    level = next;
  }
  const ids = all('[id]').map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push('twice the id ' + id);
  for (const node of all('[aria-labelledby], [aria-describedby]'))
    for (const name of ['aria-labelledby', 'aria-describedby'])
      for (const id of (node.getAttribute(name) || '').split(' ').filter(Boolean))
        if (!document.getElementById(id)) say('names a missing id ' + id, node);
  for (const image of all('img')) if (!(image.getAttribute('alt') || '').trim()) say('picture without a text', image);
  for (const svg of all('svg'))
    if (svg.getAttribute('aria-hidden') !== 'true' && !(svg.getAttribute('role') === 'img' && named(svg)
        && svg.querySelector('title') && svg.querySelector('desc')?.textContent.trim()))
      say('drawing without a text', svg);
  for (const node of all('audio, a, button, section, [role=region]')) if (!named(node)) say('without a name', node);
  for (const input of all('input'))
    if (!input.labels.length || !input.labels[0].textContent.trim()) say('no label', input);
  for (const set of all('fieldset'))
    if (!set.querySelector('legend')?.textContent.trim()) say('no legend', set);
  for (const table of all('table')) {
    if (!table.caption || !table.caption.textContent.trim()) say('table without a caption', table);
    for (const cell of table.querySelectorAll('th')) if (!cell.scope) say('heading without scope', cell);
    for (const row of table.tBodies[0].rows) if (row.cells[0].tagName !== 'TH') say('row without a heading', row);
  }
  for (const child of all('ul > *, ol > *')) if (child.tagName !== 'LI') say('no item', child);
  for (const link of all('a[href^="#"]'))
    if (!document.getElementById(link.hash.slice(1))) say('link to nowhere', link);
  for (const node of all('[tabindex]')) if (Number(node.getAttribute('tabindex')) > 0) say('tabindex above 0', node);
  return faults;
}"""

CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => {
    v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const background = (node) => { const layers = [];
    for (let one = node; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]); };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = new Map();
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || node.closest('title, desc, script, style')) continue;
    const style = getComputedStyle(node), below = background(node);
    const colour = node.closest('svg') ? style.fill : style.color, ink = over(parse(colour), below);
    const [a, b] = [luminance(ink), luminance(below)], ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const name = node.tagName + '.' + (node.getAttribute('class') || '') + ' ' + colour + ' on ' + below.slice(0, 3);
    if (!found.has(name)) found.set(name, ratio);
  }
  return [...found].map(([name, ratio]) => [name, ratio]);
}"""

FOCUSABLE = """() => {
  const groups = new Set();
  return [...document.querySelectorAll('a[href], summary, audio, input, [tabindex="0"]')].filter((node) => {
    if (node.closest('details:not([open])') && node.tagName !== 'SUMMARY') return false;
    if (!node.checkVisibility()) return false;
    if (node.type !== 'radio') return true;
    return node.checked;
  }).map((node, number) => { node.dataset.place = number; return number; });
}"""

FOCUSED = """() => {
  const node = document.activeElement;
  if (!node || node === document.body || node === document.documentElement) return null;
  const style = getComputedStyle(node), box = node.getBoundingClientRect();
  return { place: Number(node.dataset.place ?? -1), tag: node.tagName, outline: style.outlineStyle, width: box.width };
}"""


def structure_faults(page: Page) -> list[str]:
    """What is wrong with headings, landmarks, names, texts in place of pictures, tables, lists, labels, ids."""
    faults: list[str] = page.evaluate(STRUCTURE)
    return faults


def contrasts(page: Page) -> dict[str, float]:
    """The contrast of every kind of text on the page with what it stands on, closed parts included."""
    page.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    return dict(page.evaluate(CONTRAST))


def tab_stops(page: Page, most: int = 2000) -> tuple[list[int], list[dict[str, Any]]]:
    """(Places of everything that must be reached, in the document's order), (what Tab reached, in its order)."""
    wanted: list[int] = page.evaluate(FOCUSABLE)
    reached: list[dict[str, Any]] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        here = page.evaluate(FOCUSED)
        if here is None:
            break
        if not reached or reached[-1]["place"] != here["place"]:
            reached.append(here)
        if here["place"] == wanted[-1] and here["tag"] != "AUDIO":
            break
    return wanted, reached

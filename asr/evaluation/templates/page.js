const articles = [...document.querySelectorAll("article")];
const condition = document.getElementById("condition");
const boxes = [...document.querySelectorAll("#filters input")];

function show() {
  const wanted = new Set(boxes.filter(box => box.checked).map(box => box.value));
  for (const article of articles) {
    const results = [...article.querySelectorAll(".result")];
    for (const result of results) {
      const fits = !condition.value || result.dataset.conditions.split(" ").includes(condition.value);
      result.hidden = !(fits && wanted.has(result.dataset.verdict));
    }
    article.hidden = results.every(result => result.hidden);
  }
}

// Players are made when they come into view: hundreds of them at once would make the page slow.
const seen = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    const sound = document.getElementById(target.dataset.sound);
    if (sound) target.append(sound.content.cloneNode(true));
  }
});
document.querySelectorAll(".sound").forEach(place => seen.observe(place));
document.getElementById("filters").addEventListener("change", show);

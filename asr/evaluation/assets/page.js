const articles = [...document.querySelectorAll("article")];
const condition = document.getElementById("condition");
const boxes = [...document.querySelectorAll("#filters input")];

function show() {
  const wanted = new Set(boxes.filter(box => box.checked).map(box => box.value));
  for (const article of articles) {
    const fits = !condition.value || article.dataset.condition === condition.value;
    article.hidden = !(fits && wanted.has(article.dataset.verdict));
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

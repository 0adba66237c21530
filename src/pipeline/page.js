(function () {
  var root = document.documentElement;
  function speak(language) { root.lang = language; }
  var wished = (navigator.languages && navigator.languages[0]) || navigator.language || "en";
  speak(wished.toLowerCase().indexOf("ko") === 0 ? "ko" : "en");
  document.querySelectorAll("[data-lang]").forEach(function (button) {
    button.addEventListener("click", function () { speak(button.getAttribute("data-lang")); });
  });
})();

"""How the page looks, beside Gradio's theme."""

CSS = """
#ms-gallery .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); }
h1 { font-size: 1.4rem; margin: .2rem 0; }
.ms-picture img { width: 100%; max-height: 360px; object-fit: contain; border-radius: 8px;
  background: var(--background-fill-secondary); }
.ms-picture p, .ms-none { opacity: .75; font-size: .85rem; margin: .3rem 0;
  overflow-wrap: anywhere; }
.ms-picture ul, .ms-answer ul, .ms-answer ol { margin: .1rem 0 .5rem 1.3rem; padding: 0; }
.ms-picture ul, .ms-answer ul { list-style: disc; }
.ms-answer ol { list-style: decimal; }
.ms-picture li, .ms-answer li { font-size: .9rem; margin: .1rem 0; overflow-wrap: anywhere; }
.ms-answer .ms-label, .ms-picture .ms-label { opacity: .75;
  font-size: .75rem; margin: .5rem 0 0; }
.ms-caption { font-size: 1.1rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.ms-heading h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
.ms-heading p { opacity: .75; font-size: .8rem; margin: 0; }
.ms-error { color: var(--error-text-color, #b91c1c); border: 1px solid currentColor;
  border-radius: 6px; padding: .4rem .6rem; margin: .3rem 0; overflow-wrap: anywhere; }
.ms-system { border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 12px;
  background: var(--background-fill-primary); }
"""

// Starts Swagger UI on /docs. It is a file of its own, so that the page needs no inline script.
"use strict";

window.ui = SwaggerUIBundle({
  url: "openapi.json", // relative to the page, so that it is right behind a prefix, too
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // no other host checks the document
});
